"""The typed outputs of a module, with usage and trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Generic, Never, cast

import msgspec
from typing_extensions import TypeVar

from dspex.language.records.missing_field import missing_field
from dspex.language.records.trace import Trace
from dspex.language.records.usage import Usage
from dspex.notebook import lazy_html

Outputs = TypeVar("Outputs", default=Any, covariant=True)
"""The signature class whose outputs a module predicts; `Any` if it has none."""


class AdapterFallback(msgspec.Struct, frozen=True):
    """A second call with another adapter: from `source` to `target`, and the reason."""

    source: str
    target: str
    reason: str


class _Namespace(SimpleNamespace):
    """The value of `Prediction.outputs`."""

    def __getattr__(self, name: str) -> Never:
        raise _no_field(name, vars(self))


def _no_field(name: str, outputs: Mapping[str, object]) -> AttributeError:
    return AttributeError(missing_field("prediction", name, outputs))


class Prediction(Mapping[str, object], Generic[Outputs]):
    """Output fields by attribute (`p.answer`) and by key (`p["answer"]`), with usage and trace.

    Type checkers know the types of `p.outputs.answer` if the module has a signature class. A field
    with the name of an attribute of this class (`outputs`, `usage`, `trace`, `fallback`, `keys`,
    ...) is available by key and in `outputs`.
    """

    __slots__ = ("_completions", "_outputs", "_trace", "_usage", "fallback")

    fallback: AdapterFallback | None

    def __init__(self, outputs: Mapping[str, object] | None = None, /, **fields: object) -> None:
        """Take the outputs as a mapping, as keyword arguments, or both."""
        self._outputs: Mapping[str, object] = {**(outputs or {}), **fields}
        self._trace: Trace | Callable[[], Trace] | None = None
        self._usage: Usage | None = None
        self._completions: Sequence[Mapping[str, object]] = ()
        self.fallback = None

    @classmethod
    def of_run(
        cls,
        outputs: Mapping[str, object],
        trace: Trace | Callable[[], Trace],
        *,
        usage: Usage | None = None,
        fallback: AdapterFallback | None = None,
    ) -> "Prediction[Outputs]":
        """Return the prediction of a run; by default its usage is that of the trace.

        If `trace` is a function, it is called on first access.
        """
        prediction = cls(outputs)
        prediction._trace, prediction._usage = trace, usage  # a second constructor
        prediction.fallback = fallback
        return prediction

    def with_completions(self, answers: Sequence[Mapping[str, object]]) -> "Prediction[Outputs]":
        """Return the prediction with the outputs of all answers that were asked for."""
        prediction = Prediction[Outputs](self._outputs)
        prediction._trace, prediction._usage = self._trace, self._usage
        prediction.fallback, prediction._completions = self.fallback, tuple(answers)
        return prediction

    @property
    def completions(self) -> "tuple[Prediction[Outputs], ...]":
        """The predictions of all answers, see `n` of `Predict`; by default only this one."""
        if not self._completions:
            return (self,)
        return tuple(Prediction[Outputs](outputs) for outputs in self._completions)

    @property
    def outputs(self) -> Outputs:
        """The output fields as attributes, with the types that the signature class declares."""
        return cast("Outputs", _Namespace(**self._outputs))

    @property
    def trace(self) -> Trace:
        """The spans of the run; empty for a prediction made by hand."""
        if self._trace is None:
            return Trace()
        if not isinstance(self._trace, Trace):
            self._trace = self._trace()
        return self._trace

    @property
    def usage(self) -> Usage:
        """Tokens, calls and cost of the whole run."""
        return self._usage if self._usage is not None else self.trace.usage

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._outputs[name]
        except KeyError:
            raise _no_field(name, self._outputs) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._outputs]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._outputs)

    def __getitem__(self, name: str) -> object:
        try:
            return self._outputs[name]
        except KeyError:
            raise KeyError(missing_field("prediction", str(name), self._outputs)) from None

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a field, or a default."""
        return self._outputs.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    _repr_html_ = lazy_html("dspex.language.records.representation:prediction_html")

    def __repr__(self) -> str:
        return (
            f"Prediction({', '.join(f'{name}={value!r}' for name, value in self._outputs.items())})"
        )

    def to_dict(self) -> dict[str, object]:
        """Return the output fields as a new dict."""
        return dict(self._outputs)
