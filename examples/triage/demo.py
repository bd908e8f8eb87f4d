"""`make demo`: a triage program on a small local model, before and after it is shown labelled examples.

Every call goes through the services of dspex and is stored in `./.dspex/`, so that what is printed
can be looked up."""

import asyncio
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspex
from dspex.bootstrap import Services, open_services
from dspex.evaluation import Report, constant
from dspex.execution.modules import CodeRoot
from dspex.models import GEMMA_TERMS, LocalModel
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.recorded_module import RecordedModule
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import save_program
from dspex.optimizers import Trial
from dspex.settings import read_settings
from dspex.surfaces.cli.output import table
from dspex.surfaces.cli.progress import Progress
from examples.triage.triage import triage

MODEL = "local/gemma3-270m"
MESSAGES = Path(__file__).parent / "messages.csv"
PER_CLASS, CANDIDATES, SEED = 3, 6, 0


def main() -> int:
    """Run the demo; exits with 1 where the local model cannot run, because nothing else would be a result."""
    try:
        asyncio.run(demo())
    except dspex.DspexError as error:
        print(f"\nThe demo stops here: {error.message}", file=sys.stderr)
        return 1
    return 0


async def demo() -> None:
    """Load, measure, search, measure again, and say what came out."""
    settings = replace(read_settings(), model=MODEL)
    started = time.perf_counter()
    async with open_services(settings, code=CodeRoot(Path.cwd()), say=print) as services:
        print(
            f"Loading {MODEL}: a base model of 270 million parameters, on this machine's "
            f"processor. {GEMMA_TERMS}."
        )
        model = services.context.model
        if isinstance(model, LocalModel):
            await model.load()
        data = dspex.Dataset.from_file(MESSAGES)
        train, test = data.where(split="train"), data.where(split="test")
        teams = len(set(train.column("team")))
        print(
            f"{len(data)} messages for {teams} teams: {len(train)} to choose from, {len(test)} "
            "held out.\n"
        )

        before = await measured(
            services,
            triage.to_program("triage"),
            test,
            what="1 of 3  zero-shot on the held-out messages",
        )
        outcome = await search(services, train, teams=teams)
        after = await measured(
            services, outcome.program, test, what="3 of 3  chosen demonstrations, held-out messages"
        )
        await save_program(services.operations, outcome.program)

        await show_call(services)
        show_results(before, after, train=train, test=test)
        await show_next(services, after)
    print(f"\nAll of this took {time.perf_counter() - started:.0f} s.")


async def measured(
    services: Services, program: dspex.Program, rows: dspex.Dataset, *, what: str
) -> Report:
    """Score a program on rows, one call at a time: the model computes one answer at a time anyway."""
    module = RecordedModule(services.operations, program)
    with Progress(what, len(rows)) as progress:
        report = await dspex.aevaluate(
            module,
            rows,
            dspex.exact_match,
            context=services.context,
            concurrency=1,
            on_row=progress.step,
        )
    print(f"{what}: {report.mean:.2f} in {report.seconds:.0f} s")
    return report


async def search(services: Services, train: dspex.Dataset, *, teams: int) -> Any:
    """Choose the demonstrations on the training messages: each set is scored on those that it does not show."""
    from dataclasses import replace

    module = RecordedModule(services.operations, triage.to_program("triage"))
    print(
        f"2 of 3  {CANDIDATES} sets of {PER_CLASS} demonstrations a team, each scored on the "
        "other training messages:"
    )

    def told(trial: Trial) -> None:
        score = "no score" if trial.score is None else f"{trial.score:.2f}"
        rows, seconds = trial.report.scored, trial.report.seconds
        name = f"set {trial.number}" if trial.number else "as it is"
        progress.say(f"        {name}: {score} on {rows} messages in {seconds:.0f} s")

    def counted(example: dspex.Example, prediction: dspex.Prediction) -> float:
        progress.step()
        return dspex.exact_match(example, prediction)

    with Progress(
        "        choosing", (CANDIDATES + 1) * (len(train) - PER_CLASS * teams)
    ) as progress:
        outcome = await dspex.aoptimize(
            module,
            dspex.LabeledFewShot(per_class=PER_CLASS, candidates=CANDIDATES),
            train=train,
            metric=counted,
            context=services.context,
            search=dspex.Search(
                rows=len(train) - PER_CLASS * teams, concurrency=1, seed=SEED, on_trial=told
            ),
        )
    chosen = outcome.program.to_program()
    return replace(outcome, program=chosen)


async def show_call(services: Services) -> None:
    """Print what was sent and answered in the last call."""
    ended = await last_execution(services)
    span = next(span for span in ended.trace["spans"] if span["kind"] == "model")
    turns = messages_of(span["inputs_ref"])
    print("\nThe last call, as the model saw it:")
    for turn in [*turns[:3], None, turns[-1]]:
        if turn is None:
            print(f"    ... {(len(turns) - 4) // 2} more demonstrations ...")
        else:
            print(f"    --- {turn['role']} ---")
            print("\n".join(f"    {line}" for line in turn["content"].splitlines()))
    print(f"    --- the model ---\n    {ended.outputs}")


def messages_of(text: str) -> list[dict[str, str]]:
    """Read the messages of a recorded call."""
    return json.loads(text)


def show_results(
    before: Report, after: Report, *, train: dspex.Dataset, test: dspex.Dataset
) -> None:
    """Print the table, and what it says."""
    majority = dspex.evaluation.majority_class(train, "team")
    always = constant(test, {"team": majority.value}, dspex.exact_match)
    rows = [
        result(f"always {majority.value!r} (majority class)", always),
        result("zero-shot", before),
        result("chosen demonstrations", after),
    ]
    print(f"\n{table(rows, list(rows[0]))}\n")
    over_zero, over_majority = dspex.compare(after, before), dspex.compare(after, always)
    print(f"chosen demonstrations over zero-shot:      {over_zero}")
    print(f"chosen demonstrations over majority class: {over_majority}")
    if not dspex.compare(before, always).is_better:
        print(
            "Zero-shot this model is no better than the majority class: it does not understand "
            "the task."
        )
    is_better = over_zero.is_better and over_majority.is_better
    print(
        "With the chosen demonstrations it is "
        f"{'better than both' if is_better else 'not clearly better'}."
    )


def result(name: str, report: Report) -> dict[str, Any]:
    """Return one row of the table."""
    return {
        "program": name,
        "accuracy": f"{report.mean:.2f}",
        "95% interval": str(report.interval()),
        "messages": report.scored,
        "per call": f"{report.p50:.2f} s" if report.usage.calls else "",
    }


async def last_execution(services: Services) -> ExecutionRecord:
    """Return the newest execution."""
    found = await services.operations.list(
        DOMAIN["execution"], Query(where={"status": "completed"}, limit=1)
    )
    return found[0]


async def show_next(services: Services, after: Report) -> None:
    """Print the commands that go on from here."""
    command = "dspex" if shutil.which("dspex") else ".venv/bin/dspex"
    count = await services.operations.count(DOMAIN["execution"], {})
    ended = await last_execution(services)
    query = (
        '{\\"query\\": \\"{ executions(first: 3) { totalCount nodes { status inputs outputs '
        'durationMs } } }\\"}'
    )
    print(f"\n{count} executions are stored in {services.database}. Next:")
    print(f'  {command} run triage message="The shop kept my card" --model {MODEL}')
    print(f"  {command} execution {ended.id}")
    print(f"  {command} serve --model {MODEL}      # then, in another terminal:")
    print(
        f'  curl -s http://127.0.0.1:{services.settings.port}/graphql -H "content-type: '
        f'application/json" -d "{query}"'
    )
    print(f"  or open http://127.0.0.1:{services.settings.port}/explorer")


if __name__ == "__main__":
    sys.exit(main())
