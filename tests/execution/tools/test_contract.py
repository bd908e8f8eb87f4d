from dspex import Module
from dspex.execution.tools import Tool
from dspex.testing.contracts import ToolContract


def loud(text: str) -> str:
    """Make it loud."""
    return text.upper()


async def loud_later(text: str) -> str:
    """Make it loud."""
    return text.upper()


class Loud(Module):
    signature = "text -> loud"

    async def forward(self, text):
        return {"loud": text.upper()}


class TestSync(ToolContract):
    def make(self) -> Tool:
        return Tool.from_function(loud)


class TestAsync(ToolContract):
    def make(self) -> Tool:
        return Tool.from_function(loud_later)


class TestModule(ToolContract):
    def make(self) -> Tool:
        return Tool.from_module(Loud(), name="loud")
