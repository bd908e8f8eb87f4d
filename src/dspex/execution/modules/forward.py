"""What a module's `forward` declares: a signature from typed parameters, for calls and editors."""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import MethodType
from typing import Any, Protocol, get_args, get_origin

from dspex.errors import DefinitionError, DspexError
from dspex.language.records import Prediction
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import MISSING, Signature
from dspex.language.signatures.sources import call_of, parts_of_forward
from dspex.language.signatures.string_form import type_text


@lru_cache(maxsize=256)
def signature_of_forward(owner: type) -> Signature:
    """Return the signature of a module class whose `forward` has typed parameters.

    They are the inputs. The outputs are those of the class in the result, `-> Prediction[Triage]`,
    or else in the base class, `Module[Triage]`: a signature class, a model, a dataclass or a
    TypedDict. The instructions are the docstring of `forward`, of the module, or of that class.

    Raises:
        DefinitionError: a type is missing; the message says where.
    """
    forward = MethodType(inspect.getattr_static(owner, "forward"), owner)  # without `self`
    if not any(name != "return" for name in forward.__func__.__annotations__):
        raise DefinitionError(
            f"{owner.__name__} has no signature; declare `signature = 'question -> answer'` in the "
            "class, or write types, as in `async def forward(self, question: str) -> "
            "dspex.Prediction[Answer]`"
        )
    outputs = next(_output_classes(owner, forward), None)
    if outputs is None:
        raise DefinitionError(
            f"{owner.__name__} does not say which outputs it has: let `forward` return "
            f"`dspex.Prediction[Answer]`, or write `class {owner.__name__}(dspex.Module[Answer])`, "
            "with `Answer` a signature class"
        )
    fields, text = parts_of_forward(
        forward,
        tuple(Signature.of(outputs).output_fields.values())
        if issubclass(outputs, Signature)
        else outputs,
    )
    docstrings = (text, *(vars(part).get("__doc__") for part in (owner, outputs)))
    instructions = next(filter(None, docstrings), "")
    return Signature.from_fields(owner.__name__, fields, instructions)


def _output_classes(owner: type, forward: Callable[..., Any]) -> Iterator[type]:
    hints = [call_of(forward).return_annotation]
    hints = [hint for hint in hints if get_origin(hint) is Prediction]
    for parent in owner.mro():
        for hint in vars(parent).get("__orig_bases__", ()):
            parameters = vars(get_origin(hint) or object).get("__parameters__", ())
            hints += [hint] if Outputs in parameters else []
    for hint in hints:
        yield from (part for part in get_args(hint) if isinstance(part, type))


class Caller(Protocol):
    """What can be called with inputs by name."""

    def call_signature(self) -> inspect.Signature:
        """Return the inputs as parameters."""
        ...


class CallSignature:
    """The `__signature__` of modules, which `inspect.signature`, `help` and completion read."""

    def __get__(self, instance: Caller | None, owner: type) -> inspect.Signature:
        """Return how the instance is called; classes keep the signature of their constructor."""
        if instance is None:
            raise AttributeError("__signature__")
        try:
            return instance.call_signature()
        except DspexError as error:  # no signature yet
            raise AttributeError("__signature__") from error


def call_signature(signature: Signature) -> inspect.Signature:
    """Return how a module with this signature is called: its inputs by name, with their types."""
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type.python or type_text(field.type, full=True),
        )
        for field in signature.input_fields.values()
    ]
    return inspect.Signature(parameters, return_annotation=Prediction)
