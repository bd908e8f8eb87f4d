"""Inputs as instances of the classes that a module's own signature names, which no stored program can name."""

import asyncio
from collections.abc import Mapping
from typing import Any

from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.module import Module
from dspex.language.signatures.cancellable import CancellableRun


async def with_instances(module: Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return validated `inputs` of a stored program as its code declares them: a `Point` is the class of the file.

    A program that was read from data knows what an object holds, but not the class with its methods.

    Raises:
        InvalidError: a class refuses what its fields alone allow.
    """
    if isinstance(module, FunctionModule):  # it reads its inputs itself
        return inputs
    validator = module.contract().input_validator
    if not validator.has_classes:
        return inputs
    if validator.is_quick(validator.amount(inputs)):
        return validator(inputs)
    return await asyncio.to_thread(validator.run_cancellable, inputs, CancellableRun())
