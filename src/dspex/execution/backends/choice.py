"""Chooses the backend of a program: explicit, else test mode, else configuration, else native."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dspex.error_text import suggest
from dspex.errors import FieldError, InputError
from dspex.execution.backends.backend import Backend
from dspex.execution.modules.kinds import MODULE_KINDS, dspy_problem, kinds_on
from dspex.language.programs import Node, Program

CACHE_LIMIT = 256
Reason = Literal[
    "asked", "stored", "definition", "test mode", "configuration", "isolation", "default"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The backend of a program, the reason, and the program to run, whose nodes may have moved."""

    name: str
    backend: Backend
    program: Program
    why: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendPolicy:
    """The defaults for programs without an explicit backend.

    `test_mode` selects the mock, `backend` names a backend, `isolates_code` sends code programs to
    workers. `missing` returns what a backend needs before it can run, None if nothing is missing.
    """

    test_mode: bool = False
    backend: str | None = None
    isolates_code: bool = False
    missing: Callable[[str], str | None] = field(default=lambda _name: None)


class Backends(Mapping[str, Backend]):
    """The backends of this process by name, and the choice between them."""

    def __init__(
        self, backends: Mapping[str, Backend], policy: BackendPolicy | None = None
    ) -> None:
        """Take the backends: at least "native" and "hybrid", which runs mixed nodes."""
        self._backends = backends
        self._policy = policy or BackendPolicy()
        self._cache: dict[tuple[str, str], Program] = {}

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def check(self, name: str) -> None:
        """Check that a backend exists and can run.

        Raises:
            InputError: the name is unknown, or the backend needs something that is not installed.
        """
        if name not in self._backends:
            names = ", ".join(self._backends)
            raise _backend_error(
                name,
                f"unknown backend {name!r}.{suggest(name, [*self])} Backends are: {names}",
                names,
            )
        if (need := self._policy.missing(name)) is not None:
            raise _backend_error(
                name, f"the backend {name!r} {need}", "a backend that is installed"
            )

    def choose(
        self, program: Program, *, stored: str = "native", backend: str | None = None
    ) -> Choice:
        """Return the backend of `program` and the reason for it.

        Args:
            program: its nodes may name backends, and its root may set `isolation`.
            stored: the backend in its record; "native" counts as no preference.
            backend: the backend that the caller wants for this run; it has priority.

        Raises:
            InputError: the backend is unavailable, or cannot run this program.
        """
        name, why = self._preference(program, stored, backend=backend)
        self.check(name)
        if name == "native" and backend is not None:
            runs_only_elsewhere = MODULE_KINDS.keys() - kinds_on(name)
            program = self._move(
                program, name, supports=lambda node: node.kind not in runs_only_elsewhere
            )
        if name == "dspy":
            program = self._move(program, name, supports=lambda node: not dspy_problem(node))
        mixed = sorted({node.backend for node in program.root.walk()} - {"native"})
        if name in {"native", "dspy"} and mixed:
            name = program.root.backend if program.root.backend != "native" else "hybrid"
        elif name == "isolated" and mixed:
            message = (
                f"a program with nodes on {', '.join(mixed)} cannot run as a whole in a worker"
            )
            raise _backend_error(name, message, "'native', which leaves each node where it is")
        for required in {name, *mixed}:
            self.check(required)
        return Choice(name=name, backend=self._backends[name], program=program, why=why)

    def _move(self, program: Program, name: str, *, supports: Callable[[Node], bool]) -> Program:
        """Return the program moved to a backend, from a cache, so that each is hashed only once."""
        key = (program.content_hash, name)
        if key not in self._cache:
            if len(self._cache) >= CACHE_LIMIT:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = _move_nodes(program, name, supports=supports)
        return self._cache[key]

    def _preference(
        self, program: Program, stored: str, *, backend: str | None
    ) -> tuple[str, Reason]:
        policy, root = self._policy, program.root
        if backend is not None:
            return backend, "asked"
        if stored != "native":
            return stored, "stored"
        if any(node.backend != "native" for node in root.walk()):
            return "native", "definition"
        if root.config.get("isolation") == "process":
            return "isolated", "isolation"
        if policy.test_mode:
            return "mock", "test mode"
        if policy.backend is not None:
            return policy.backend, "configuration"
        if policy.isolates_code and any(node.kind == "python" for node in root.walk()):
            return "isolated", "isolation"
        return "native", "default"


def _move_nodes(program: Program, backend: str, *, supports: Callable[[Node], bool]) -> Program:
    """Return the program with every suitable node on `backend`, including its children."""
    moved_ids: list[str] = []

    def move(node: Node) -> Node:
        if supports(node):
            moved_ids.append(node.id)
            if backend != "native":
                return replace(node, backend=backend)
            return replace(node, backend="native", children=_map_children(node, move))
        return replace(node, children=_map_children(node, move))

    root = move(program.root)
    if not moved_ids or (
        backend == "native" and any(node.backend != "native" for node in root.walk())
    ):
        kinds = ", ".join(sorted({node.kind for node in program.root.walk()}))
        raise _backend_error(
            backend,
            f"the backend {backend!r} runs no part of this program (its kinds: {kinds})",
            "another",
        )
    return program if root == program.root else replace(program, root=root)


def _map_children(
    node: Node, change: Callable[[Node], Node]
) -> dict[str, Node | tuple[Node, ...] | Mapping[str, Node]]:
    children: dict[str, Node | tuple[Node, ...] | Mapping[str, Node]] = {}
    for name, child in node.children.items():
        if isinstance(child, Node):
            children[name] = change(child)
        elif isinstance(child, Mapping):
            children[name] = {key: change(item) for key, item in child.items()}
        else:
            children[name] = tuple(change(item) for item in child)
    return children


def _backend_error(value: str, message: str, expected: str) -> InputError:
    error = FieldError(
        field="backend",
        path="backend",
        value=value,
        message=message,
        constraint="backend",
        expected=expected,
    )
    return InputError(f"backend: {message}", errors=[error])
