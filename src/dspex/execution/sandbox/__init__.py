"""Sandboxes: places where code that a model wrote runs without harming the host.

`modules` and everything above may import it.
"""

from dspex.execution.sandbox.deno import DenoSandbox
from dspex.execution.sandbox.registry import SANDBOXES, find_sandbox
from dspex.execution.sandbox.sandbox import (
    Sandbox,
    SandboxFault,
    SandboxLimits,
    SandboxResult,
    SandboxSession,
)

__all__ = [
    "SANDBOXES",
    "DenoSandbox",
    "Sandbox",
    "SandboxFault",
    "SandboxLimits",
    "SandboxResult",
    "SandboxSession",
    "find_sandbox",
]
