"""`make demo`: a triage program on a small local model, before and after chosen demonstrations.

Every call is stored in `./.dspex/`, so that what is printed can be looked up.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspex
from dspex.evaluation import ProgressDisplay, Report, constant
from dspex.models import GEMMA_TERMS
from dspex.optimizers import Outcome, Trial
from examples.triage.triage import Triage, triage

MODEL = "local/gemma3-270m"
MESSAGES = Path(__file__).parent / "messages.csv"
PER_CLASS, CANDIDATES, SEED = 3, 6, 0
Program = dspex.Predict[Triage]


def main() -> int:
    """Run the demo; exit with 1 if the local model cannot run."""
    try:
        demo()
    except dspex.DspexError as error:
        print(f"\nThe demo stops here: {error.message}", file=sys.stderr)
        return 1
    return 0


def demo() -> None:
    """Load the model, measure, search, measure again, and print the results."""
    started = time.perf_counter()
    print(
        f"Loading {MODEL}: a base model of 270 million parameters, on this machine's processor. "
        f"{GEMMA_TERMS}.",
        flush=True,
    )
    with dspex.open() as store, dspex.context(model=MODEL):
        triage(message="Is anybody there?")  # loads the model, so that no figure includes it
        data = dspex.Dataset.from_file(MESSAGES)
        train, test = data.where(split="train"), data.where(split="test")
        teams = len(set(train.column("team")))
        print(
            f"{len(data)} messages for {teams} teams: {len(train)} to choose from, {len(test)} "
            "held out.\n"
        )
        before = measure(triage, test, what="1 of 3  zero-shot on the held-out messages")
        outcome = search(train, teams=teams)
        what = "3 of 3  chosen demonstrations, held-out messages"
        after = measure(outcome.program, test, what=what)

        [last] = store.executions(limit=1)
        show_call(last.trace or {}, last.outputs)
        show_results(before, after, train=train, test=test)
        show_next(str(last.id))
    print(f"\nAll of this took {time.perf_counter() - started:.0f} s.")


def measure(program: Program, rows: dspex.Dataset, *, what: str) -> Report:
    """Score a program on rows, one call at a time, because the model computes one at a time."""
    with ProgressDisplay(len(rows), what="message") as progress:
        report = dspex.evaluate(program, rows, dspex.exact_match, concurrency=1, on_row=progress)
    print(f"{what}: {report.mean:.2f} in {report.seconds:.0f} s", flush=True)
    return report


def search(train: dspex.Dataset, *, teams: int) -> Outcome[Program]:
    """Choose demonstrations; each set is scored on the training messages that it does not show."""
    print(
        f"2 of 3  {CANDIDATES} sets of {PER_CLASS} demonstrations a team, each scored on the "
        "other training messages:",
        flush=True,
    )

    def show_trial(trial: Trial) -> None:
        score = "no score" if trial.score is None else f"{trial.score:.2f}"
        rows, seconds = trial.report.scored, trial.report.seconds
        name = f"set {trial.number}" if trial.number else "as it is"
        print(f"        {name}: {score} on {rows} messages in {seconds:.0f} s", flush=True)

    return dspex.optimize(
        triage,
        dspex.LabeledFewShot(per_class=PER_CLASS, candidates=CANDIDATES),
        train=train,
        metric=dspex.exact_match,
        search=dspex.Search(
            rows=len(train) - PER_CLASS * teams, concurrency=1, seed=SEED, on_trial=show_trial
        ),
    )


def show_call(trace: Mapping[str, Any], outputs: object) -> None:
    """Print what a recorded call sent and got."""
    span = next(span for span in trace["spans"] if span["kind"] == "model")
    turns: list[dict[str, str]] = json.loads(span["inputs_ref"])
    print("\nThe last call, as the model saw it:")
    for turn in turns[:3] if len(turns) > 3 else turns:
        show_turn(turn)
    if len(turns) > 3:
        print(f"    ... {(len(turns) - 4) // 2} more demonstrations ...")
        show_turn(turns[-1])
    print(f"    --- the model ---\n    {outputs}")


def show_turn(turn: dict[str, str]) -> None:
    """Print one message."""
    print(f"    --- {turn['role']} ---")
    print("\n".join(f"    {line}" for line in turn["content"].splitlines()))


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
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    print()
    for row in ({name: name for name in widths}, *rows):
        print("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())
    print()
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


def result(name: str, report: Report) -> dict[str, str]:
    """Return one row of the table."""
    return {
        "program": name,
        "accuracy": f"{report.mean:.2f}",
        "95% interval": str(report.interval()),
        "messages": str(report.scored),
        "per call": f"{report.p50:.2f} s" if report.usage.calls else "",
    }


def show_next(execution: str) -> None:
    """Print the commands that go on from here."""
    command = "dspex" if shutil.which("dspex") else ".venv/bin/dspex"
    query = (
        '{\\"query\\": \\"{ executions(first: 3) { totalCount nodes { status inputs outputs '
        'durationMs } } }\\"}'
    )
    print("\nEvery call is stored in ./.dspex/. Next:")
    print(f'  {command} run Triage message="The shop kept my card" --model {MODEL}')
    print(f"  {command} execution {execution}")
    print(f"  {command} serve --model {MODEL}      # then, in another terminal:")
    print(
        f'  curl -s http://127.0.0.1:8123/graphql -H "content-type: application/json" -d "{query}"'
    )
    print("  or open http://127.0.0.1:8123/explorer")


if __name__ == "__main__":
    sys.exit(main())
