"""`dspex trial`: list, show and promote the trials of stored optimizations."""

from dspex.surfaces.cli.nouns import noun_group

trial_command = noun_group(
    "trial", columns=("number", "label", "score", "rows", "failed", "is_on_front", "id")
)
