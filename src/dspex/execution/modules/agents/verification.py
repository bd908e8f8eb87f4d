"""Verification: a module or a function that checks the answer of a team."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from dspex.error_text import shorten
from dspex.errors import DefinitionError, ExecutionError, boundary
from dspex.execution.modules.code import function_config, load_function
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

Verifier = Callable[[Mapping[str, Any], Prediction], bool] | Module
"""A function of inputs and prediction, or a module with a truth value as output."""


async def objection(verifier: Verifier, inputs: Mapping[str, Any], prediction: Prediction) -> str:
    """Return why an answer is not accepted, or an empty text.

    A module gets the inputs and outputs that it declares as its inputs. Its first output that is
    true or false is the verdict, its first text the reason. A function returns the verdict, or
    raises `ValueError` or `AssertionError` with the reason.

    Raises:
        ExecutionError: the function raised another error.
    """
    answer = shorten(prediction.to_dict())
    if isinstance(verifier, Module):
        values = {**inputs, **prediction}
        contract = verifier.contract()
        verdict = await verifier.acall(
            **{name: values[name] for name in contract.input_fields if name in values}
        )
        if verdict[_verdict_field(contract)]:
            return ""
        text = next((value for value in verdict.values() if isinstance(value, str)), "")
        return f"{answer} was not accepted{f': {text}' if text else ''}"
    with boundary(ExecutionError, "`verify`"):
        try:
            return "" if verifier(inputs, prediction) else f"{answer} was not accepted"
        except (ValueError, AssertionError) as error:
            return f"{answer} was not accepted: {error}"


def _verdict_field(signature: Signature) -> str:
    for name, field in signature.output_fields.items():
        if field.type.kind == "bool":
            return name
    raise DefinitionError(
        f"{signature.name} has no output that is true or false, so it cannot verify; its outputs "
        f"are: {', '.join(signature.output_fields)}"
    )


def check_verifier(verifier: Verifier | None) -> Verifier | None:
    """Return a verifier that can be used, or None.

    Raises:
        DefinitionError: it is of another kind, or a module without a verdict.
    """
    if isinstance(verifier, Module):
        _verdict_field(verifier.contract())
    elif verifier is not None and not callable(verifier):
        raise DefinitionError(
            f"`verify` is a function of (inputs, prediction) or a module, not {shorten(verifier)}"
        )
    return verifier


def verifier_data(
    verifier: Verifier | None, path: ModulePath
) -> tuple[dict[str, Any], dict[str, Node]]:
    """Return a verifier as data: configuration and children of the node at `path`.

    Raises:
        DefinitionError: it is a function that cannot be found by import.
    """
    if verifier is None:
        return {}, {}
    if isinstance(verifier, Module):
        return {}, {"verify": verifier.node(path.child("verify"))}
    return {"verify": function_config(verifier, "`verify`")}, {}


def stored_verifier(node: Node, builder: NodeBuilder) -> Verifier | None:
    """Return the verifier of a stored node, None if it has none.

    Raises:
        DefinitionError: it is code that cannot be loaded.
        ConflictError: the source of the function has changed.
    """
    if "verify" in node.children:
        return builder.child(node, "verify", Module)
    if "verify" not in node.config:
        return None
    return cast("Verifier", load_function(node.config["verify"], builder.code, "`verify`"))
