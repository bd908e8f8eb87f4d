"""`dspex feedback`: Give, list and sum up feedback on executions; links for end users."""

from dspex.surfaces.cli.nouns import noun_group

feedback_command = noun_group(
    "feedback",
    columns=("program", "score", "label", "comment", "source", "created_at", "execution_id", "id"),
)
