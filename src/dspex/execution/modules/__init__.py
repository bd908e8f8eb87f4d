"""Programs that run: modules, alone and in trees, and their way to data and back."""

from dspex.execution.modules.building import build, module_of
from dspex.execution.modules.checking import Assert, Suggest
from dspex.execution.modules.code import CodeRoot
from dspex.execution.modules.function import FunctionModule, program
from dspex.execution.modules.module import Module, Slot
from dspex.execution.modules.predict import Predict

__all__ = [
    "Assert",
    "CodeRoot",
    "FunctionModule",
    "Module",
    "Predict",
    "Slot",
    "Suggest",
    "build",
    "module_of",
    "program",
]
