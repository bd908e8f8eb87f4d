"""Programs that run: modules, alone and in trees, and their way to data and back."""

from dspex.execution.modules.building import CodeRoot, build, module_of
from dspex.execution.modules.function import FunctionModule, program
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict

__all__ = ["CodeRoot", "FunctionModule", "Module", "Predict", "build", "module_of", "program"]
