"""An upper bound on what a search uses, from a few real runs of the unchanged program."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.errors import DspexError
from dspex.execution.clients.identity import identify
from dspex.execution.clients.media_tokens import content_tokens
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.language.records import Usage
from dspex.learning.evaluation import Report
from dspex.learning.optimizers.proposer import Additions, AdditionsProvider, Call, Optimizer, Task
from dspex.learning.optimizers.search import Estimate, Search

_INSTRUCTION = 250  # tokens of an instruction that a model writes: a few sentences
_QUESTION = 3000  # bytes of a question for one, without the rows that it shows
_QUESTION_ROWS = 8
_FIELD = 40  # bytes that a layout adds to a field
_CAUTION = 1.25  # what is added may have more tokens for a byte than what was counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A few runs of the unchanged program; `calls` holds the predictor calls of each run."""

    module: Module
    report: Report
    calls: Sequence[Sequence[Call]]
    context: RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """What one run of the program may use in a search, and what it used in the probe.

    `calls`, `tokens` and `usd` are upper bounds, `least` is the cheapest run of the probe, and
    `question` the tokens of a question of the optimizer. `usd_per_token` is None if no price is
    known.
    """

    calls: int
    tokens: float
    question: float
    usd_per_token: float | None
    least: Usage

    @property
    def usd(self) -> float | None:
        """The dollars of the most expensive run."""
        return None if self.usd_per_token is None else self.usd_per_token * self.tokens


def cost_of_run(task: Task, additions: Additions, probe: Probe, *, search: Search) -> RunCost:
    """Return the most that a run may use: the most expensive run of the probe, and more.

    It adds what longer rows cost, and what the optimizer adds to prompts: the longest rows as
    demonstrations, the longest declared texts, its questions, and instructions of up to 250 tokens.
    It cannot foresee replies that are longer, or runs with more calls, than in the probe (a chain
    of thought instead of a plain answer, for example).
    """
    usages = [row.usage + row.judge_usage for row in probe.report.rows]
    calls, tokens = (
        max(1, *(usage.calls for usage in usages)),
        max(usage.total_tokens for usage in usages),
    )
    longest = max(
        _size(row) for split in (task.train, search.validation, search.test) for row in split or ()
    )
    probed = min(_size(row.example) for row in probe.report.rows)
    texts = calls * (longest - probed + _longest_texts(task))
    bytes_more = texts + _demonstrations(task, probe, additions, probed=probed)
    each = _tokens_for_a_byte(probe)
    costs = [
        usage.cost_usd / usage.total_tokens
        for usage in usages
        if usage.cost_usd is not None and usage.total_tokens
    ]
    return RunCost(
        calls=calls,
        tokens=tokens + bytes_more * each + (calls * _INSTRUCTION if additions.questions else 0),
        question=(_QUESTION + _QUESTION_ROWS * longest) * each + 2 * _INSTRUCTION,
        usd_per_token=max(costs) if len(costs) == len(usages) else None,
        least=min(usages, key=lambda usage: (usage.calls, usage.total_tokens)),
    )


def additions_of(optimizer: Optimizer, task: Task) -> Additions:
    """Return what an optimizer adds to prompts and asks; nothing if it does not say."""
    return optimizer.additions(task) if isinstance(optimizer, AdditionsProvider) else Additions()


def estimate_search(
    task: Task, optimizer: Optimizer, probe: Probe, *, rows: int, search: Search
) -> Estimate:
    """Return an upper bound: the most expensive run for each possible run; see `cost_of_run`."""
    additions = additions_of(optimizer, task)
    cost = cost_of_run(task, additions, probe, search=search)
    runs = rows + optimizer.runs(task, rows) + 2 * len(search.test or ())
    total = runs * cost.tokens + additions.questions * max(0.0, cost.question - cost.tokens)
    usages = [row.usage + row.judge_usage for row in probe.report.rows]
    tokens = max(usage.total_tokens for usage in usages)
    return Estimate(
        runs=runs,
        calls=runs * cost.calls,
        tokens=round(total),
        usd=None if cost.usd_per_token is None else cost.usd_per_token * total,
        seconds=max(row.seconds for row in probe.report.rows)
        * runs
        * (cost.tokens / tokens if tokens else 1.0),
    )


def _demonstrations(task: Task, probe: Probe, additions: Additions, *, probed: int) -> int:
    """Return the most bytes that demonstrations add to a run.

    `probed` is the length of the shortest row in the probe.
    """
    variables = [
        variable for variable in task.program.space.values() if variable.kind == "examples"
    ]
    slots = {path for variable in variables for path in variable.paths}
    if not additions.demonstrations or not slots:
        return 0
    each = max(
        (sum(_demonstration(call, probe) for call in calls) for calls in probe.calls), default=0
    )
    count = max(map(len, probe.calls), default=0)
    if not each:  # the inputs of each predictor are unknown: assume the whole row
        rows = [{**row.example, **(row.outputs or {})} for row in probe.report.rows]
        each, count = len(slots) * max(map(_laid_out, rows)), len(slots)
    longest = sorted(map(_size, task.train), reverse=True)[: additions.demonstrations]
    return additions.demonstrations * each + count * sum(max(0, size - probed) for size in longest)


def _demonstration(call: Call, probe: Probe) -> int:
    """Return the bytes of a call as a demonstration in the layout of its predictor."""
    demo = {**call.inputs, **call.outputs}
    plain, with_demo = _prompt(call, probe, ()), _prompt(call, probe, (demo,))
    return max(_laid_out(demo), 0 if plain is None or with_demo is None else with_demo - plain)


def _longest_texts(task: Task) -> int:
    """Return the total bytes of the longest declared option of every text."""
    texts = [variable for variable in task.program.space.values() if variable.kind == "text"]
    return sum(
        max((len(str(text).encode()) for text in variable.options), default=0) for variable in texts
    )


def _tokens_for_a_byte(probe: Probe) -> float:
    """Return the tokens per byte of the prompts, rather too many; 1 if unknown."""
    ratios = []
    for row, calls in zip(probe.report.rows, probe.calls, strict=False):
        sizes = [_prompt(call, probe, None) for call in calls]
        if row.usage.input_tokens and sizes and None not in sizes:
            ratios.append(_CAUTION * row.usage.input_tokens / sum(size or 0 for size in sizes))
    return min(1.0, max(ratios, default=1.0))


def _prompt(call: Call, probe: Probe, demos: Sequence[Mapping[str, Any]] | None) -> int | None:
    """Return the prompt size of a call in bytes, and tokens of media; None if unknown.

    `demos` replaces the demonstrations of the predictor.
    """
    part = dict(probe.module.named_modules()).get(call.path)
    if not isinstance(part, Predict):
        return None
    try:
        model = probe.context.model_for(part.model)
        adapter = probe.context.adapter_for(part.adapter, model)
        demonstrations = part.demos if demos is None else demos
        messages = adapter.render(part.signature, demonstrations, call.inputs).messages
    except DspexError:
        return None
    label = identify(model).label
    return sum(len(message.text.encode()) + content_tokens(label, message) for message in messages)


def _laid_out(values: Mapping[str, Any]) -> int:
    return _size(values) + _FIELD * len(values)


def _size(row: Mapping[str, Any]) -> int:
    return sum(_bytes(row[name]) for name in row)


def _bytes(value: Any) -> int:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return len(text.encode())
