"""Runs programs of `shapes` on plain dspy, without dspex.

Reads cases from stdin and writes outcomes to stdout.
"""

import importlib
import json
import sys
from pathlib import Path

import dspy
from pydantic_core import to_jsonable_python

sys.path.insert(0, str(Path(__file__).parent))
script = importlib.import_module("script")
shapes = importlib.import_module("shapes")


class Shape:
    """A chat completion by its attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Scripted(dspy.BaseLM):
    """Answers by the script and remembers what it was asked."""

    def __init__(self):
        super().__init__(model="scripted", cache=False)
        self.asked = []

    def forward(self, prompt=None, messages=None, **settings):
        """Answer one prompt as often as it asks for."""
        settings = {**self.kwargs, **settings}
        texts = []
        for _ in range(settings.get("n") or 1):
            self.asked.append([messages, settings.get("temperature")])
            texts.append(script.reply(messages))
        choices = [Shape(message=Shape(content=text), finish_reason="stop") for text in texts]
        return Shape(choices=choices, usage={}, model="scripted")

    async def aforward(self, prompt=None, messages=None, **settings):
        """The same for asynchronous callers."""
        return self.forward(prompt, messages, **settings)


def outcome(name, inputs):
    """Return what a program answers, and what it asked for it."""
    import asyncio

    program = getattr(shapes, name)
    program = program() if isinstance(program, type) else program
    values = {**inputs, **shapes.instances(name, inputs)}
    lm = Scripted()
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), callbacks=[]):
        is_async = not hasattr(type(program), "forward")
        prediction = asyncio.run(program.acall(**values)) if is_async else program(**values)
    outputs = {key: outward(value) for key, value in prediction.items()}
    return {"outputs": outputs, "asked": lm.asked}


def outward(value):
    """Return a value as JSON."""
    return to_jsonable_python(value, fallback=str)


if __name__ == "__main__":
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    cases = json.load(sys.stdin)
    json.dump([outcome(name, inputs) for name, inputs in cases], sys.stdout)
