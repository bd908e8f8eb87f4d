"""A pytest plugin: tests of program quality with thresholds.

Installed with dspex under the name "dspex"; it imports the rest of dspex when a test uses it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dspex.execution.modules import Module
    from dspex.language.programs import Program
    from dspex.learning.evaluation import Dataset, Report
    from dspex.learning.evaluation.evaluate import Metrics
    from dspex.learning.optimizers.limits import Limit

    Rows = Dataset | str | Path | Sequence[Mapping[str, Any]]

_REPORTS: "pytest.StashKey[dict[str, Report]]" = pytest.StashKey()
WORST = 3
LOW = "low"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--dspex-model`."""
    group = parser.getgroup("dspex")
    group.addoption(
        "--dspex-model",
        metavar="MODEL",
        help="Model string for evaluations, such as local/gemma3-270m.",
    )


class Evaluation:
    """Evaluates programs within one test. See the fixture `dspex_eval`."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """Take the test that uses the fixture."""
        self._request = request

    def __call__(
        self,
        program: "Module | Program",
        data: "Rows",
        metric: "Metrics | None" = None,
        *,
        must: Sequence[str] = (),
        repeats: int = 1,
        concurrency: int = 8,
    ) -> "Report":
        """Evaluate `program` and return the report; the test fails if a limit does not hold.

        Args:
            program: a module, or a program as data.
            data: a dataset, rows, or a file; a relative path starts at the folder of the test.
            metric: a metric, or several by name; `exact_match` by default.
            must: limits on figures, such as "exact_match>=0.85", "low>=0.7" (the lower end of the
                first metric's 95% interval), "p95<2s", "usd<=0.001" or "failed<=2". No row may fail
                unless a limit on "failed" allows it.
            repeats: how often to run each row.
            concurrency: how many rows run at once.

        Raises:
            DefinitionError: a limit is malformed or names an unknown figure, or a metric has the
                name of a figure; nothing was run.
        """
        __tracebackhide__ = True  # a failure report shows the line of the test
        from dspex.errors import DspexError
        from dspex.failures import frames_text, user_frames

        try:
            report, figures, limits = self._evaluate(
                program, data, metric, must=must, repeats=repeats, concurrency=concurrency
            )
        except DspexError as error:
            if frames := user_frames(error):
                error.add_note(frames_text(frames))
            raise error.with_traceback(None) from None
        if broken := [
            f"{limit} (it is {figures[limit.figure]:.4g})"
            for limit in limits
            if not limit.holds(figures)
        ]:
            pytest.fail(_failure_text(report, broken), pytrace=False)
        return report

    def _evaluate(
        self,
        program: "Module | Program",
        data: "Rows",
        metric: "Metrics | None",
        *,
        must: Sequence[str],
        repeats: int,
        concurrency: int,
    ) -> "tuple[Report, Mapping[str, float], Sequence[Limit]]":
        """Return the report, its figures, and the limits that they must meet."""
        from dspex.execution.context import current
        from dspex.learning.evaluation import aevaluate, exact_match
        from dspex.learning.evaluation.evaluate import metrics_by_name
        from dspex.learning.optimizers.goal import Goal
        from dspex.learning.optimizers.limits import figures_of, parse_limit
        from dspex.sync import run

        metrics = metrics_by_name(metric or exact_match)
        limits = [parse_limit(text) for text in must]
        goal = Goal.of(list(metrics))
        goal.check_known([limit.figure for limit in limits if limit.figure != LOW])
        if not any(limit.figure == "failed" for limit in limits):
            limits.append(parse_limit("failed<=0"))
        with self._model_context():
            work = aevaluate(
                program,
                self._rows(data),
                metrics,
                context=current(),
                repeats=repeats,
                concurrency=concurrency,
            )
            report = run(work)
        figures = {**figures_of(report), LOW: report.interval().low, "failed": float(report.failed)}
        reports = self._request.config.stash.setdefault(_REPORTS, {})
        reports[_name(self._request.node.nodeid, reports)] = report
        return report, figures, limits

    def _rows(self, data: "Rows") -> "Dataset":
        from dspex.learning.evaluation import Dataset

        if isinstance(data, Dataset):
            return data
        if isinstance(data, str | Path):
            return Dataset.from_file(self._request.path.parent / data)
        return Dataset.from_rows(data)

    def _model_context(self) -> Any:
        from contextlib import nullcontext

        import dspex

        model = self._request.config.getoption("--dspex-model")
        return nullcontext() if model is None else dspex.context(model=model)


def _name(test: str, reports: Mapping[str, object]) -> str:
    """Return the name of an evaluation: its test, with a number from the second one on."""
    count = sum(name == test or name.startswith(f"{test} (") for name in reports)
    return f"{test} ({count + 1})" if count else test


def _failure_text(report: "Report", broken: Sequence[str]) -> str:
    from dspex.learning.evaluation.export import to_text

    worst = sorted(report.rows, key=lambda row: (row.error is None, row.score or 0.0, row.index))[
        :WORST
    ]
    lines = [f"this does not hold: {', '.join(broken)}", to_text({report.dataset: report})]
    for row in worst:
        outcome = row.error or f"{dict(row.scores)} for {dict(row.outputs or {})}"
        outcome += f", because {dict(row.reasons)}" if row.reasons else ""
        lines.append(f"row {row.index}: {dict(row.example)} -> {outcome}")
    return "\n".join(lines)


@pytest.fixture
def dspex_eval(request: pytest.FixtureRequest) -> Evaluation:
    """Evaluate programs: `dspex_eval(program, "rows.csv", must=["exact_match>=0.85", "p95<2s"])`.

    The model is that of `--dspex-model`, or else the one that the test sets. The end of the run
    shows all reports.
    """
    return Evaluation(request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show a table of all evaluations of the run."""
    reports = terminalreporter.config.stash.get(_REPORTS, {})
    if not reports:
        return
    from dspex.learning.evaluation.export import to_text

    terminalreporter.section("dspex evaluations")
    terminalreporter.write_line(to_text(reports))
