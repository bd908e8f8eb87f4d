"""The environment and `dspex.toml`, read once into plain values. No other room reads them.

Command-line flags override the environment, which overrides the `dspex.toml` of the project.
"""

from dspex.settings.reader import OTHER_VARIABLES, environment_of, project_folder, read_settings
from dspex.settings.secret import Secret, resolve_secret
from dspex.settings.settings import Settings
from dspex.settings.table import config_schema

__all__ = [
    "OTHER_VARIABLES",
    "Secret",
    "Settings",
    "config_schema",
    "environment_of",
    "project_folder",
    "read_settings",
    "resolve_secret",
]
