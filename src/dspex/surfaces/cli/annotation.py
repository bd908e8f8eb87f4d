"""`dspex annotation`: Queue executions for people, take and complete them one by one."""

from dspex.surfaces.cli.nouns import noun_group

annotation_command = noun_group(
    "annotation",
    columns=("status", "program", "reason", "taken_by", "created_at", "execution_id", "id"),
)
