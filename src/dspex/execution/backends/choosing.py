"""The choice of where a program runs: explicit, else test mode, else configuration, else in this process."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dspex.errors import FieldError, InvalidError, suggest
from dspex.execution.backends.backend import Backend
from dspex.language.programs import Node, Program

DSPY_KINDS = frozenset({"predict", "chain_of_thought", "react", "program_of_thought", "dspy"})
DSPY_ONLY = frozenset({"program_of_thought", "dspy"})
REMEMBERED = 256
Reason = Literal["asked", "stored", "definition", "test mode", "configuration", "isolation", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where a program runs and why; `program` is what runs there: the same one, or one with nodes moved."""

    name: str
    backend: Backend
    program: Program
    why: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What decides where nobody asked: answers made up (`test_mode`), a backend, and whether code is isolated.

    `missing` tells, by backend, what has to be installed before it can run, None where all is there.
    """

    test_mode: bool = False
    backend: str | None = None
    isolates_code: bool = False
    missing: Callable[[str], str | None] = field(default=lambda _name: None)


class Backends(Mapping[str, Backend]):
    """The backends of this process by name, and the choice between them."""

    def __init__(self, backends: Mapping[str, Backend], policy: Policy | None = None) -> None:
        """Take the backends: "native" and "hybrid" at least, where programs of mixed nodes run."""
        self._backends = backends
        self._policy = policy or Policy()
        self._moved: dict[tuple[str, str], Program] = {}

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def check(self, name: str) -> None:
        """Refuse a backend that is not here.

        Raises:
            InvalidError: there is none of this name, or it needs something that is not installed.
        """
        if name not in self._backends:
            known = ", ".join(self._backends)
            raise _refused(name, f"there is no backend {name!r}.{suggest(name, [*self])} Backends are: {known}", known)
        if (need := self._policy.missing(name)) is not None:
            raise _refused(name, f"the backend {name!r} {need}", "a backend that is installed")

    def choose(self, program: Program, *, stored: str = "native", asked: str | None = None) -> Choice:
        """Return where `program` runs.

        Args:
            program: its nodes may name backends, and its root may say `isolation`.
            stored: what its record says; "native" leaves it to what follows.
            asked: what the caller wants for this run; decides over everything.

        Raises:
            InvalidError: the backend is not here, or cannot run this program.
        """
        name, why = self._named(program, stored, asked=asked)
        self.check(name)
        if name == "native" and asked is not None:
            program = self._on(program, name, able=lambda node: node.kind not in DSPY_ONLY)
        if name == "dspy":
            program = self._on(program, name, able=lambda node: node.kind in DSPY_KINDS)
        mixed = sorted({node.backend for node in program.root.walk()} - {"native"})
        if name in {"native", "dspy"} and mixed:
            name = program.root.backend if program.root.backend != "native" else "hybrid"
        elif name == "isolated" and mixed:
            said = f"a program with nodes on {', '.join(mixed)} cannot run as a whole in a worker of its own"
            raise _refused(name, said, "'native', which leaves each node where it is")
        for needed in {name, *mixed}:
            self.check(needed)
        return Choice(name=name, backend=self._backends[name], program=program, why=why)

    def _on(self, program: Program, name: str, *, able: Callable[[Node], bool]) -> Program:
        """Return the program moved to a backend: the same value for the same program, so that it is hashed once."""
        key = (program.content_hash, name)
        if key not in self._moved:
            if len(self._moved) >= REMEMBERED:
                del self._moved[next(iter(self._moved))]
            self._moved[key] = _moved(program, name, able=able)
        return self._moved[key]

    def _named(self, program: Program, stored: str, *, asked: str | None) -> tuple[str, Reason]:
        policy, root = self._policy, program.root
        if asked is not None:
            return asked, "asked"
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


def _moved(program: Program, backend: str, *, able: Callable[[Node], bool]) -> Program:
    """Return the program with every node that `able` takes on `backend`, and what is below it with it."""
    done: list[str] = []

    def move(node: Node) -> Node:
        if able(node):
            done.append(node.id)
            if backend != "native":
                return replace(node, backend=backend)
            return replace(node, backend="native", children=_each(node, move))
        return replace(node, children=_each(node, move))

    root = move(program.root)
    if not done or (backend == "native" and any(node.backend != "native" for node in root.walk())):
        kinds = ", ".join(sorted({node.kind for node in program.root.walk()}))
        raise _refused(backend, f"the backend {backend!r} runs no part of this program (its kinds: {kinds})", "another")
    return program if root == program.root else replace(program, root=root)


def _each(node: Node, change: Callable[[Node], Node]) -> dict[str, Node | tuple[Node, ...] | Mapping[str, Node]]:
    made: dict[str, Node | tuple[Node, ...] | Mapping[str, Node]] = {}
    for name, child in node.children.items():
        if isinstance(child, Node):
            made[name] = change(child)
        elif isinstance(child, Mapping):
            made[name] = {key: change(item) for key, item in child.items()}
        else:
            made[name] = tuple(change(item) for item in child)
    return made


def _refused(value: str, message: str, expected: str) -> InvalidError:
    error = FieldError(
        field="backend", path="backend", value=value, message=message, constraint="backend", expected=expected
    )
    return InvalidError(f"backend: {message}", errors=[error])
