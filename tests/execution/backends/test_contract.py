import contextlib

from dspex.execution.backends import MockBackend, NativeBackend
from dspex.testing.backends import BackendContract


class TestNative(BackendContract):
    def make(self):
        return contextlib.nullcontext(NativeBackend())


class TestMock(BackendContract):
    def make(self):
        return contextlib.nullcontext(MockBackend())
