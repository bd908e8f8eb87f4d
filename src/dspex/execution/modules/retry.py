"""Retry: run a module again until it succeeds and its answer is accepted."""

from collections.abc import Callable, Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import (
    AdapterError,
    CheckError,
    DefinitionError,
    ExecutionError,
    InputError,
    boundary,
)
from dspex.execution.modules.attempts import attempt_context, check_count, check_module
from dspex.execution.modules.code import function_config, load_function
from dspex.execution.modules.inner import INNER_SETTINGS, check_settings, inner_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Prediction
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature

_ADVICE = "An earlier attempt at this failed: {reason}\nDo not repeat the mistake."


@checks_names
class Retry(Module[Outputs]):
    """Runs a module again if it fails or its answer is not accepted.

    Each attempt sends new requests, even behind a cache or in a search (see `Rollout`), and its
    prompts say why the last answer was not accepted.
    """

    def __init__(
        self,
        module: Module[Outputs],
        *,
        attempts: int = 3,
        accept: Callable[[Prediction[Outputs]], bool] | str | None = None,
    ) -> None:
        """Take the module, the maximum number of attempts, and the test of an answer.

        `accept` is a function of the prediction, or the name of an output that is true or false. As
        in the checks of an output, an answer is not accepted if `accept` returns False, or raises
        `ValueError` or `AssertionError`; the text of the exception is the reason.

        Raises:
            DefinitionError: `attempts` is invalid, or `accept` is neither.
        """
        check_module("Retry", module)
        self.module = module
        self.attempts = check_count("attempts", attempts)
        self.accept = _check_accept(accept, module.contract())

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs]:
        """Run until an answer is accepted.

        Raises:
            ExecutionError: the last attempt failed, or no answer was accepted.
        """
        reason = ""
        for number in range(self.attempts):
            advice = {"": _ADVICE.format(reason=reason)} if reason else {}
            context = attempt_context(number, of=self.attempts, advice=advice)
            try:
                prediction: Prediction[Outputs] = await self.module.acall(context, **inputs)
            except ExecutionError as error:
                if isinstance(error, InputError) or number == self.attempts - 1:
                    raise
                reason = error.message if isinstance(error, AdapterError | CheckError) else ""
                continue
            reason = self._objection(prediction)
            if not reason:
                return prediction
        raise ExecutionError(
            f"none of {self.attempts} answers of {type(self.module).__name__} was accepted; the "
            f"last one: {reason}"
        )

    def _objection(self, prediction: Prediction[Outputs]) -> str:
        """Return why a prediction is not accepted, or an empty text."""
        if self.accept is None:
            return ""
        answer = shorten(prediction.to_dict())
        if isinstance(self.accept, str):
            return "" if prediction[self.accept] else f"{answer} was not accepted"
        with boundary(ExecutionError, "`accept` of Retry"):
            try:
                return "" if self.accept(prediction) else f"{answer} was not accepted"
            except (ValueError, AssertionError) as error:
                return f"{answer} was not accepted: {error}" if str(error) else f"{answer} failed"

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: its function `accept` cannot be found by import.
        """
        config: dict[str, Any] = {"attempts": self.attempts}
        if isinstance(self.accept, str):
            config["accept"] = self.accept
        elif self.accept is not None:
            config["accept"] = function_config(self.accept, f"`accept` of Retry at {str(path)!r}")
        children = {"module": self.module.node(path.child("module"))}
        return Node(id=str(path), kind=KIND.name, config=config, children=children)


def _build(node: Node, builder: NodeBuilder) -> Retry:
    accept = node.config.get("accept")
    if accept is not None and not isinstance(accept, str):
        accept = load_function(accept, builder.code, "`accept` of Retry")
    return Retry(
        builder.child(node, "module", Module), attempts=node.config["attempts"], accept=accept
    )


def _check_accept(accept: Any, contract: Signature) -> Any:
    if isinstance(accept, str):
        field = contract.output_fields.get(accept)
        if field is None or field.type.kind != "bool":
            raise DefinitionError(
                f"`accept` of Retry: {accept!r} is not an output that is true or false; the "
                f"outputs are: {', '.join(contract.output_fields)}"
            )
    elif accept is not None and not callable(accept):
        raise DefinitionError(
            "`accept` of Retry is a function of the prediction, or the name of an output, not "
            f"{shorten(accept)}"
        )
    return accept


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    check_settings("retry", settings, KIND.settings)
    options = {key: settings[key] for key in ("attempts", "accept") if key in settings}
    return Retry(inner_module(signature, settings), **options).to_program(name)


KIND = ModuleKind(
    name="retry",
    summary="runs a module again until it succeeds and its answer is accepted",
    build=_build,
    create=_create,
    settings=("attempts", "accept", *INNER_SETTINGS),
    code=functions_in("accept"),
)
