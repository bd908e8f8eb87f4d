"""A typed function as a program: `@dspex.program`."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, overload

from typing_extensions import TypeVar

from dspex.execution.modules.code import code_config
from dspex.execution.modules.module import Module
from dspex.execution.modules.source import hash_at_definition
from dspex.language.programs import ModulePath, Node
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature
from dspex.language.signatures.classes import members_by_name
from dspex.language.signatures.sources import is_whole_return
from dspex.sync import in_thread

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dspex.execution.context import RunContext
    from dspex.language.records import Prediction

P = ParamSpec("P")


class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound="BaseModel | DataclassInstance")


class FunctionModule(Module[Outputs], Generic[P, Outputs]):
    """Calls one function, sync or async; its parameters are the inputs, its result the outputs."""

    if TYPE_CHECKING:  # the inputs are the parameters of the function

        def __call__(
            self, context: RunContext | None = None, /, *positional: P.args, **inputs: P.kwargs
        ) -> Prediction[Outputs]:
            """See `Module.__call__`."""
            ...

        async def acall(
            self, context: RunContext | None = None, /, *positional: P.args, **inputs: P.kwargs
        ) -> Prediction[Outputs]:
            """See `Module.acall`."""
            ...

    def __init__(self, function: Callable[..., Any]) -> None:
        """Take the function.

        Raises:
            SignatureError: a parameter or the result has no type, or a type that fields cannot
                have.
        """
        self.function = function
        self.__source_hash__ = hash_at_definition(function)
        self.signature: Signature = Signature.from_function(function)
        self._returns_one_value = is_whole_return(function)
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        inputs, outputs = map(
            ", ".join, (self.signature.input_fields, self.signature.output_fields)
        )
        return f"<program {self.__name__} {inputs} -> {outputs}>"

    def _name_in_traces(self) -> str:
        """Return the name of the function."""
        return self.__name__

    def call_signature(self) -> inspect.Signature:
        """Return the signature of the function."""
        return inspect.signature(self.function)

    def node(self, path: ModulePath) -> Node:
        """Return the function as data: its import path and the hash of its source."""
        return Node(
            id=str(path),
            kind="python",
            config=code_config(self.function, {}, source=self.__source_hash__),
        )

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Check the inputs, call the function, and return its outputs by field name."""
        values = self.signature.validate_inputs(inputs)
        if inspect.iscoroutinefunction(self.function):
            result = await self.function(**values)
        else:
            result = await in_thread(self.function, **values)
        return self._outputs(result)

    def _outputs(self, result: Any) -> Mapping[str, Any]:
        if self._returns_one_value and not self._is_by_name(result):
            return self.signature.validate_outputs({"result": result})
        return self.signature.validate_outputs(members_by_name(result))

    def _is_by_name(self, result: Any) -> bool:
        """Whether the result is `{"result": ...}` and the declared type is not a mapping."""
        if not isinstance(result, Mapping) or list(result) != ["result"]:
            return False
        type_ = self.signature.output_fields["result"].type
        parts = type_.args if type_.kind == "union" else (type_,)
        return all(part.kind not in {"dict", "any", "object"} for part in parts)


@overload
def program(function: Callable[P, Awaitable[Record]]) -> FunctionModule[P, Record]: ...


@overload
def program(function: Callable[P, Record]) -> FunctionModule[P, Record]: ...


@overload
def program(function: Callable[P, object]) -> FunctionModule[P, Any]: ...


def program(function: Callable[..., Any]) -> FunctionModule[..., Any]:
    """Turn a typed function into a program, which `dspex run file.py:name` can run, too.

    The inputs are the parameters of the function, passed by name. The outputs are the members of
    the model, dataclass or TypedDict that it returns; any other result is the output `result`.
    """
    return FunctionModule(function)
