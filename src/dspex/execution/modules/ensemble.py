"""Ensemble: run several modules at once and reduce their predictions to one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import DefinitionError, ExecutionError, boundary
from dspex.execution.modules.attempts import attempt_context, together
from dspex.execution.modules.code import function_config, load_function
from dspex.execution.modules.inner import check_settings, described_modules
from dspex.execution.modules.majority import most_frequent
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Prediction
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature

Reduce = Callable[[Sequence[Prediction]], Prediction | Mapping[str, Any]]


@checks_names
class Ensemble(Module[Outputs]):
    """Runs modules at once on the same inputs and reduces their predictions to one.

    Its signature is that of the first module; the others may declare fewer inputs, and need its
    outputs. A module that fails is left out. Listeners to a stream do not hear the members.
    """

    def __init__(self, modules: Sequence[Module[Outputs]], *, reduce: Reduce | None = None) -> None:
        """Take the modules, and a function from their predictions, in order, to the outputs.

        By default the most frequent value of the last output wins, see `most_frequent`.

        Raises:
            DefinitionError: there are no modules, or one lacks an output of the first.
        """
        if not modules:
            raise DefinitionError("an ensemble needs at least one module")
        self.modules = list(modules)
        self.reduce = reduce
        outputs = self.contract().output_fields.keys()
        for number, module in enumerate(self.modules):
            if missing := [name for name in outputs if name not in module.contract().output_fields]:
                raise DefinitionError(
                    f"module {number} of the ensemble has no output {missing[0]!r}, which the "
                    "first one has"
                )

    def contract(self) -> Signature:
        """Return the signature of the first module."""
        return self.modules[0].contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs] | Mapping[str, Any]:
        """Run all modules and reduce their predictions.

        Raises:
            ExecutionError: all modules failed, or `reduce` raised an error.
        """
        values = self.contract().validate_inputs(inputs)
        context = attempt_context(0, of=1, is_silent=True)
        predictions: list[Prediction[Outputs]] = await together(
            [module.acall(context, **_wanted(module.contract(), values)) for module in self.modules]
        )
        if self.reduce is not None:
            with boundary(ExecutionError, "`reduce` of Ensemble"):
                return self.reduce(predictions)
        return most_frequent(predictions, field=list(self.contract().output_fields)[-1])

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: its function `reduce` cannot be found by import.
        """
        config: dict[str, Any] = {}
        if self.reduce is not None:
            config["reduce"] = function_config(self.reduce, "`reduce` of Ensemble")
        members = tuple(
            module.node(path.child(f"modules[{number}]"))
            for number, module in enumerate(self.modules)
        )
        return Node(id=str(path), kind=KIND.name, config=config, children={"modules": members})


def _wanted(signature: Signature, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in signature.input_fields if name in values}


def _build(node: Node, builder: NodeBuilder) -> Ensemble:
    reduce = node.config.get("reduce")
    if reduce is not None:
        reduce = load_function(reduce, builder.code, "`reduce` of Ensemble")
    return Ensemble(builder.sequence(node, "modules"), reduce=reduce)


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    check_settings("ensemble", settings, KIND.settings)
    return Ensemble(described_modules(settings.get("modules"), signature)).to_program(name)


KIND = ModuleKind(
    name="ensemble",
    summary="runs several modules at once and reduces their predictions to one",
    build=_build,
    create=_create,
    settings=("modules",),
    code=functions_in("reduce"),
)
