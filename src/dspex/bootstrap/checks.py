"""Checks of settings against what they name: models, adapters, and functions in the code root."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dspex.bootstrap.database import domain_of
from dspex.bootstrap.retention import redaction_of
from dspex.errors import DspexError
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.adapter_code import load_adapter
from dspex.operations.programs.tools import load_tool
from dspex.session import check_embedder, check_model, check_models
from dspex.settings import Settings, read_settings


def checked_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    code: CodeRoot | None,
    warn: Callable[[str], None] | None = None,
) -> Settings:
    """Return the settings of this process, after importing what they name in the code root.

    Unknown variables are passed to `warn`; without it they are problems (see `read_settings`).

    Raises:
        ConfigurationError: lists all problems: those of `read_settings`, an unknown model or
            adapter, and a domain, redaction hook or metric that cannot be imported.
    """
    return read_settings(flags=flags, checks=lambda settings: _problems(settings, code), warn=warn)


def _problems(settings: Settings, code: CodeRoot | None) -> Iterator[tuple[str, str]]:
    checks: dict[str, Callable[[], object]] = {
        **{
            f"adapters.{name}": partial(load_adapter, name, target, code)
            for name, target in settings.adapters.items()
            if code is not None
        },
        "adapter": partial(find_adapter, settings.adapter),
        "domain": partial(domain_of, settings, code),
        "redact": partial(redaction_of, settings, code),
    }
    if settings.model is not None:
        checks = {"model": partial(check_model, settings.model, settings.models), **checks}
    if settings.models:
        checks["models"] = partial(check_models, settings.models)
    if settings.embedder is not None:
        checks["embedder"] = partial(check_embedder, settings.embedder)
    if code is not None:
        checks |= {
            f"metrics.{name}": partial(code.load, target)
            for name, target in settings.metrics.items()
        }
        checks |= {
            f"tools.{name}": partial(load_tool, code, name, target)
            for name, target in settings.tools.items()
        }
    for name, check in checks.items():
        try:
            check()
        except DspexError as error:
            yield name, error.message
