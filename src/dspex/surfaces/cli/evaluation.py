"""`dspex evaluation`: list, show, create, pause, resume and cancel stored evaluations."""

from dspex.surfaces.cli.job import show_command
from dspex.surfaces.cli.nouns import noun_group

evaluation_command = noun_group(
    "evaluation",
    columns=("status", "program", "dataset", "mean", "waiting", "created_at", "id"),
)
evaluation_command.add_command(show_command)
