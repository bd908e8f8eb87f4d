"""`dspex optimization`: list, show, create, pause, resume and cancel stored optimizations."""

from dspex.surfaces.cli.job import show_command
from dspex.surfaces.cli.nouns import noun_group

optimization_command = noun_group(
    "optimization_job",
    columns=("status", "program", "dataset", "optimizer", "waiting", "created_at", "id"),
)
optimization_command.add_command(show_command)
