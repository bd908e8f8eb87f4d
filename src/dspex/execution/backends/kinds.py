"""The registry of backends. A new backend is a file with its `KIND`, and a line here."""

from collections.abc import Mapping

from dspex.execution.backends import dspy_kind, hybrid, isolated, mock, native
from dspex.execution.backends.backend_kind import BackendKind

BACKEND_KINDS: Mapping[str, BackendKind] = {
    kind.name: kind
    for kind in (
        native.KIND,
        isolated.KIND,
        dspy_kind.KIND,
        mock.KIND,
        hybrid.KIND,  # the last, because it runs nodes on the others
    )
}


def public_kinds() -> Mapping[str, BackendKind]:
    """Return the kinds that settings and callers may name."""
    return {name: kind for name, kind in BACKEND_KINDS.items() if not kind.is_internal}
