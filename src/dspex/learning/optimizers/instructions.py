"""Instructions written by a model from the data, the program and the current instruction."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspex.execution.modules import Predict
from dspex.language.signatures import Signature
from dspex.learning.optimizers.proposer import Result, SearchQuestion, SearchReply, Task

TIPS = (
    "",
    "Be brief: one sentence.",
    "Name what is easily confused, and how to tell it apart.",
    "Describe step by step what to pay attention to.",
    "Say who the reader is and what a wrong answer would cost them.",
    "State the exact form of the answer.",
)
_DESCRIBE = Signature(
    "rows -> description",
    "These are rows of a data set in JSON. Describe in two or three sentences what they are about, "
    "what varies between them, and what makes the answer hard to find.",
)
_WRITE = Signature(
    "data_description, program, current_instruction, examples, tip -> instruction",
    "A language model carries out one step of a program. Write a better instruction for this step. "
    "It must fit every row, so take nothing over from single examples. Follow the tip, where there "
    "is one.",
)


class Instructions:
    """The candidate instructions of each predictor: the current one, then declared options.

    A model proposes `count - 1` more.
    """

    def __init__(self, task: Task, *, count: int) -> None:
        """Take the task."""
        self._task = task
        self._count = count
        self._rng = random.Random(f"{task.seed}/instructions")
        self._description: str | None = None
        self._asked: list[tuple[str, SearchQuestion]] | None = None
        self._signatures = dict(instruction_variables(task))
        self.found: dict[str, list[str]] = {
            name: _worth_trying(task, name, signature)
            for name, signature in self._signatures.items()
        }

    @property
    def questions(self) -> int:
        """The largest number of questions."""
        return 1 + len(self._signatures) * (self._count - 1)

    def ask(self) -> Sequence[SearchQuestion]:
        """Return the next questions; an empty list means that all instructions are complete."""
        if self._count < 2 or not self._signatures:
            return ()
        if self._description is None:
            return [SearchQuestion(module=Predict(_DESCRIBE), inputs={"rows": self._rows(8)})]
        if self._asked is None:
            self._asked = [
                (slot, self._question(slot, n))
                for slot in self._signatures
                for n in range(1, self._count)
            ]
            return [question for _, question in self._asked]
        return ()

    def tell(self, results: Sequence[Result]) -> None:
        """Record replies; a failed question adds no instruction."""
        replies = [result for result in results if isinstance(result, SearchReply)]
        if self._description is None:
            self._description = _text(replies[0], "description") if replies else ""
            return
        for (slot, _), reply in zip(self._asked or (), replies, strict=False):
            text = _text(reply, "instruction")
            if text and text not in self.found[slot]:
                self.found[slot].append(text)

    def _question(self, slot: str, number: int) -> SearchQuestion:
        signature = self._signatures[slot]
        inputs = {
            "data_description": self._description or "(none)",
            "program": f"{self._task.program.signature}; this step: {signature}",
            "current_instruction": self.found[slot][0],
            "examples": self._rows(3),
            "tip": TIPS[number % len(TIPS)] or "(none)",
        }
        return SearchQuestion(
            module=Predict(_WRITE, temperature=1.0), inputs=inputs, salt=f"{slot} {number}"
        )

    def _rows(self, count: int) -> str:
        indexes = self._rng.sample(range(len(self._task.train)), min(count, len(self._task.train)))
        return "\n".join(
            json.dumps(self._task.train[n].to_dict(), ensure_ascii=False, default=str)
            for n in indexes
        )


def instruction_variables(task: Task) -> Iterator[tuple[str, Signature]]:
    """Yield each variable that sets instructions, with the signature that they belong to."""
    nodes = {node.id: node for node in task.program.root.walk()}
    for variable in task.program.space.values():
        for path in variable.paths:
            owner, _, slot = path.rpartition(".")
            node = nodes.get(owner)
            if (
                variable.kind == "text"
                and slot == "instructions"
                and node is not None
                and node.signature is not None
            ):
                yield variable.name, node.signature
                break


def _worth_trying(task: Task, name: str, signature: Signature) -> list[str]:
    """Return the current instruction, then the declared options of the variable."""
    variable = task.program.space[name]
    current = task.program.assignment.get(name, variable.default or signature.instructions)
    return list(dict.fromkeys([str(current), *variable.options]))


def _text(reply: SearchReply, field: str) -> str:
    outputs: Mapping[str, Any] = reply.outputs or {}
    return str(outputs.get(field, "")).strip()
