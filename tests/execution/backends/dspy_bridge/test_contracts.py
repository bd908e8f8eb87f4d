"""Code that cannot be analysed gives a guess with a reason, never an error."""

import functools
from typing import Any

import pytest

dspy: Any = pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")

from dspex.execution.backends.dspy_bridge.child.contracts import contract_of, inputs_of  # noqa: E402
from dspex.execution.backends.dspy_bridge.child.values import converters_for  # noqa: E402

pytestmark = pytest.mark.full


class Base(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


def made(source: str, base: type = Base) -> Any:
    """Return an instance of a class without a source file."""
    names: dict[str, Any] = {"Base": base, "dspy": dspy}
    exec(source, names)  # noqa: S102  # a test's own text
    return names["Odd"]()


class Callable:
    def __call__(self, question: str) -> Any:
        return dspy.Prediction(answer=question)


class Called(Base):
    forward = Callable()


class Partial(Base):
    forward = functools.partialmethod(
        lambda self, tone, question: self.ask(question=question + tone), "kind"
    )


class Lambda(Base):
    forward = lambda self, question, k=1: self.ask(question=question)  # noqa: E731


class OnlyRest(Base):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.missing(*args, **kwargs)


class Property(Base):
    @property
    def step(self) -> Any:
        raise AssertionError("reading must not run a property")

    def forward(self, question: str) -> Any:
        return self.step(question=question)


class Trap(Base):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def forward(self, question: str, mode: "Missing" = None) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return self.unknown[question](mode)


ODD = {
    "no source": lambda: made(
        "class Odd(Base):\n def forward(self, question, k=2): return self.ask(question=question)"
    ),
    "a callable": Called,
    "a partial": Partial,
    "a lambda": Lambda,
    "only the rest": OnlyRest,
    "a property": Property,
    "a trap": Trap,
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_read_is_a_guess_with_its_reason(name: str) -> None:
    program = ODD[name]()
    contract = contract_of(program)
    assert contract["guess"]
    assert [field["name"] for field in contract["outputs"]] == ["answer"]
    assert "question" in [field["name"] for field in contract["inputs"]]
    converters_for(program, inputs_of(program))
