"""Settings that have the right form, and whether they can be used: what they name is looked for."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from dspex.bootstrap.keeping import redaction_of
from dspex.bootstrap.opening import domain_of
from dspex.errors import DspexError
from dspex.execution.context import find_adapter
from dspex.execution.modules import CodeRoot
from dspex.session import check_model
from dspex.settings import Settings, read_settings


def checked_settings(
    flags: Mapping[str, Any] | None = None, *, code: CodeRoot | None, warn: Callable[[str], None] | None = None
) -> Settings:
    """Return the settings of this process; what they name in the code root has been imported.

    Unknown variables are told to `warn`, and are problems without it; see `read_settings`.

    Raises:
        ConfigurationError: every problem at once, by name: those of `read_settings`, a model or an adapter that there
            is not, a domain, a redaction hook or a metric that cannot be had.
    """
    return read_settings(flags=flags, checks=lambda settings: _problems(settings, code), warn=warn)


def _problems(settings: Settings, code: CodeRoot | None) -> Iterator[tuple[str, str]]:
    looked_at: dict[str, Callable[[], object]] = {
        "adapter": partial(find_adapter, settings.adapter),
        "domain": partial(domain_of, settings, code),
        "redact": partial(redaction_of, settings, code),
    }
    if settings.model is not None:
        looked_at = {"model": partial(check_model, settings.model), **looked_at}
    if code is not None:
        looked_at |= {f"metrics.{name}": partial(code.load, target) for name, target in settings.metrics.items()}
    for name, look in looked_at.items():
        try:
            look()
        except DspexError as error:
            yield name, error.message
