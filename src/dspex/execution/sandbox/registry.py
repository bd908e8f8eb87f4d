"""The registry of sandboxes. A new one is a file, and a line here."""

from collections.abc import Callable, Mapping
from functools import cache

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.sandbox.deno import DenoSandbox
from dspex.execution.sandbox.monty import MontySandbox
from dspex.execution.sandbox.sandbox import Sandbox
from dspex.execution.sandbox.subprocess import SubprocessSandbox

SANDBOXES: Mapping[str, Callable[[], Sandbox]] = {
    sandbox.name: sandbox for sandbox in (MontySandbox, DenoSandbox, SubprocessSandbox)
}
DEFAULT = MontySandbox.name


def find_sandbox(sandbox: Sandbox | str | None) -> Sandbox:
    """Return the sandbox with a name, by default "monty"; pass sandboxes through.

    The sandbox of a name is the same one in the whole process.

    Raises:
        DefinitionError: no sandbox has this name.
    """
    if sandbox is not None and not isinstance(sandbox, str):
        return sandbox
    name = sandbox or DEFAULT
    if name not in SANDBOXES:
        raise DefinitionError(
            f"unknown sandbox {name!r}.{suggest(name, SANDBOXES)} Sandboxes are: "
            f"{', '.join(SANDBOXES)}"
        )
    return _shared(name)


@cache
def _shared(name: str) -> Sandbox:
    return SANDBOXES[name]()
