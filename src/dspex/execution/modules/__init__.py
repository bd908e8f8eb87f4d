"""Runnable programs: modules and trees of modules, and their conversion to and from data."""

from dspex.execution.modules.assertions import Assert, Suggest
from dspex.execution.modules.builder import build, load, module_of
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code import CodeRoot
from dspex.execution.modules.function import FunctionModule, program
from dspex.execution.modules.module import Module
from dspex.execution.modules.parallel import Parallel
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.react import ReAct
from dspex.execution.modules.retry import Retry
from dspex.execution.modules.slot import Slot
from dspex.execution.modules.switch import OneOf

__all__ = [
    "Assert",
    "ChainOfThought",
    "CodeRoot",
    "FunctionModule",
    "Module",
    "OneOf",
    "Parallel",
    "Predict",
    "ReAct",
    "Retry",
    "Slot",
    "Suggest",
    "build",
    "load",
    "module_of",
    "program",
]
