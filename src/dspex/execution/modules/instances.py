"""Convert inputs to instances of the classes in a module's signature."""

import asyncio
from collections.abc import Mapping
from typing import Any

from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.module import Module
from dspex.language.signatures.cancellable_run import CancellableRun


async def with_instances(module: Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return validated `inputs` as instances of the classes that the module declares.

    The signature of a stored program has the fields of a class, but not the class itself.

    Raises:
        InputError: a class rejects values that its fields allow.
    """
    if isinstance(module, FunctionModule):  # it validates its inputs itself
        return inputs
    validator = module.contract().input_validator
    if not validator.has_classes:
        return inputs
    if validator.is_quick(validator.amount(inputs)):
        return validator(inputs)
    return await asyncio.to_thread(validator.run_cancellable, inputs, CancellableRun())
