"""`dspex optimize` and `dspex eval` against a simulated model behind the OpenAI protocol."""

import csv
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.execution.clients import Request, Response
from dspex.execution.modules import CodeRoot
from dspex.surfaces.cli import main
from dspex.testing import SimulatedModel
from tests.support.serving import served

pytestmark = pytest.mark.bridge

PROGRAM = """
import dspex

answer = dspex.Predict("question -> answer").with_variables(
    dspex.Text(
        "Answer.",
        options=("Answer.", "Be careful and exact.", "Answer as a poem."),
        name="self.instructions",
    ),
    dspex.Float(0, 1.5, name="self.temperature"),
)
"""


def _name(folder: Path) -> str:
    """A module name that no other test uses."""
    return f"improving_{folder.name}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a program and rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{_name(tmp_path)}.py").write_text(PROGRAM)
    rows = [f"question {n},answer {n},{'train' if n < 30 else 'test'}" for n in range(110)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,answer,split", *rows]) + "\n")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line; return its exit code, and what it printed on both streams."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


def optimize(capsys: pytest.CaptureFixture[str], model: str, *more: str) -> Any:
    """Run the search as a user would."""
    pytest.importorskip("optuna")
    return call(
        capsys, "optimize", f"{_name(Path.cwd())}.py:answer", "rows.csv",
        "--where", "split=train", "--test", "split=test",
        "--optimizer", "Joint", "--trials", "10", "--model", model, "--seed", "1", *more,
    )  # fmt: skip


def test_optimize_finds_a_better_program_writes_it_and_goes_on_from_its_journal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1)}) as server:
        model, files = f"{server.url}#m", ["--journal", "search.jsonl", "--output", "better.json"]
        code, out, err = optimize(
            capsys, model, *files, "--html", "page.html", "--csv", "trials.csv"
        )
        assert code == 0
        assert "significantly better on 80 held-out rows" in out
        assert "estimate: at most" in err
        call_count = server.calls["m"]
        code, out, _ = optimize(capsys, model, *files, "--json")
        assert (code, server.calls["m"]) == (0, call_count)  # every answer came from the journal
    data = json.loads(out)
    assert data["verdict"]["better"]
    assert data["verdict"]["low"] > 0
    page = (folder / "page.html").read_text()
    assert "<svg" in page
    assert "Significantly better" in page
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert len(rows) == len(data["trials"])
    assert json.loads((folder / "better.json").read_text())["assignment"]


def test_what_optimize_wrote_is_a_target_and_is_imported_and_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1)}) as server:
        model = ["--model", f"{server.url}#m", "--json"]
        assert optimize(capsys, f"{server.url}#m", "--output", "better.json")[0] == 0
        question = "question=question 1"
        plain = json.loads(call(capsys, "run", f"{_name(folder)}.py:answer", question, *model)[1])
        ran = json.loads(call(capsys, "run", "better.json", question, *model)[1])
        # a version of the same program
        assert (ran["status"], ran["program_id"]) == ("completed", plain["program_id"])
        assert call(capsys, "eval", "better.json", "rows.csv", "--limit", "3", *model)[0] == 0
        request = call(capsys, "prompt", "better.json", question, *model)[1]
        assert request != call(capsys, "prompt", f"{_name(folder)}.py:answer", question, *model)[1]
        imported = json.loads(
            call(capsys, "import", "better.json", "--name", "better", "--json")[1]
        )
        again = json.loads(call(capsys, "run", "better", question, *model)[1])
        assert (again["program_id"], again["backend"]) == (imported["id"], "native")
    data = json.loads((folder / "better.json").read_text())
    loaded = dspex.load(folder / "better.json")
    assert loaded.assignment() == data["assignment"]
    fresh = dspex.Predict(loaded.contract())
    fresh.load(folder / "better.json")
    assert isinstance(loaded, dspex.Predict)
    assert (fresh.signature, fresh.demos) == (loaded.signature, loaded.demos)
    code, _, err = call(capsys, "run", "bettr.json", "question=q")
    assert (code, "the file 'bettr.json' does not exist. Did you mean 'better.json'?" in err) == (
        1,
        True,
    )


@pytest.mark.parametrize("source", ["optimize", "export", "save"])
def test_a_saved_program_is_accepted_by_every_command_and_by_load(
    folder: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    target, file = f"{_name(folder)}.py:answer", "saved.json"
    rows = ["rows.csv", "--where", "split=train"]
    with served({"m": SimulatedModel(seed=1)}) as server:
        model = ["--model", f"{server.url}#m"]
        search = [*rows, "--rows", "4", *model, "--option", "candidates=1", "--option", "k=2"]
        if source == "optimize":
            assert call(capsys, "optimize", target, *search, "--insist", "--output", file)[0] == 0
        elif source == "export":
            assert call(capsys, "push", target)[0] == 0
            assert call(capsys, "program", "export", "answer", "--output", file)[0] == 0
        else:
            CodeRoot(folder).load(f"{_name(folder)}:answer").save(file)
        for arguments in (
            ["run", file, "question=question 1", *model],
            ["eval", file, "rows.csv", "--limit", "2", *model],
            ["optimize", file, *search, "--output", "again.json"],
            ["push", file, "--name", "pushed"],
            ["run", "again.json", "question=question 1", *model],
        ):
            code, _, err = call(capsys, *arguments)
            assert (arguments, code) == (arguments, 0), err
        with dspex.context(model=f"{server.url}#m"):
            assert dspex.load(file)(question="question 1").answer
            with dspex.open() as store:
                assert store.load("pushed")(question="question 1").answer


def test_the_winner_of_a_stored_program_is_stored_as_its_next_version(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1)}) as server:
        code, out, err = optimize(capsys, f"{server.url}#m", "--journal", "s.jsonl")
        assert "next: the same command with --store or --output keeps the winner" in err
        assert re.search(r"\btemperature=0\.\d{1,3}\b", out)
        assert not re.search(r"self\.|=\d\.\d{4}", out)
        code, out, err = optimize(
            capsys, f"{server.url}#m", "--journal", "s.jsonl", "--output", "better.json"
        )
        assert "next: dspex run better.json question=... runs it, and dspex push" in err
        assert call(capsys, "push", f"{_name(folder)}.py:answer")[0] == 0
        arguments = [
            *("optimize", "answer", "rows.csv", "--where", "split=train", "--test", "split=test"),
            *("--optimizer", "Joint", "--trials", "10", "--model", f"{server.url}#m"),
            *("--seed", "1", "--journal", "s.jsonl", "--store"),
        ]
        code, out, err = call(capsys, *arguments)
        assert (code, "the winner is version 2 of answer, the current one" in out) == (0, True)
        assert "next: dspex program diff answer 1 2 shows the changes" in err
        assert "dspex program activate answer 1 returns" in err
    assert call(capsys, "program", "diff", "answer", "1", "2")[0] == 0
    versions = json.loads(call(capsys, "program", "versions", "answer", "--json")[1])
    makers = [row["made_by"] for row in versions["program_versions"]]
    assert makers == ["optimizer Joint", "user"]


def test_optimize_ends_before_its_budget_is_passed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del folder
    with served({"m": SimulatedModel(seed=1)}) as server:
        code, out, err = optimize(capsys, f"{server.url}#m", "--max-calls", "60")
        assert (code, server.calls["m"]) == (1, 3)
        assert "and two on each of 80 held-out rows" in err
        enough = re.search(r"(\d+) are enough", err)
        assert enough is not None
        most = int(enough[1])
        code, out, err = optimize(capsys, f"{server.url}#m", "--max-calls", str(most), "--json")
        assert (code, server.calls["m"] <= 3 + most) == (0, True)
    assert json.loads(out)["result"] in {"improved", "no significant improvement"}


def test_another_winner_is_picked_from_a_finished_search(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "brief.py").write_text(
        "def brief(example, prediction):\n    return len(prediction.answer) < 11\n"
    )
    with served({"m": SimulatedModel(seed=1)}) as server:
        model = f"{server.url}#m"
        files = [
            "--journal",
            "s.jsonl",
            "--metric",
            "exact_match",
            "--metric",
            "brief.py:brief",
            "--output",
            "p.json",
        ]
        code, out, _ = optimize(capsys, model, *files)
        assert code == 0
        assert "several at once: trial exact_match brief tokens p95 failed label" in " ".join(
            out.split()
        )
        call_count = server.calls["m"]
        code, out, _ = optimize(
            capsys, model, *files, "--pick", "exact_match>=0.3,-tokens", "--json"
        )
        data = json.loads(out)
        assert code == 0
        # held-out rows of the one that was picked, and nothing else
        assert server.calls["m"] - call_count <= 80
        assert data["verdict"]["objective"] == "-tokens"
        assert data["verdict"]["limits"][0].startswith("exact_match>=0.3")
        assert data["best"] in {line["trial"] for line in data["front"]}
        call_count = server.calls["m"]
        code, out, err = optimize(capsys, model, *files, "--pick", "exact_match>=2,brief")
        assert code == 1
        assert "no program within the limits" in out
        assert "warning: no program within the limits: exact_match>=2" in err
        assert "the program, as it was, is in p.json" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--maximize", "exact_mach"], "unknown figure 'exact_mach'"),
        (["--subject-to", "p95<<2"], "is not a limit"),
        (["--pick", "cheapest,fastest"], "names 2 figures"),
        (["--pick", "cheapest", "--maximize", "-usd"], "give either --pick or those two"),
        (
            ["--output", "nowhere/x.json"],
            "'nowhere/x.json' cannot be written: there is no such folder",
        ),
        (["--csv", "."], "cannot be written: it is a folder"),
        (["--metric", "exact_match", "--metric", "exact_match"], "two metrics have the same name"),
        (["--objective", "exact_mach"], "unknown figure 'exact_mach'. Did you mean 'exact_match'?"),
        (["--fresh"], "--fresh renames the file of --journal; give --journal too"),
        (
            ["--optimizer", "RandomSearch", "--objective", "-usd"],
            "--objective is an option of --optimizer Joint, not of RandomSearch",
        ),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_spent(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    del folder
    with served({"m": SimulatedModel(seed=1)}) as server:
        code, _, err = optimize(capsys, f"{server.url}#m", *flags)
        assert (code, sum(server.calls.values())) == (1, 0)
    assert message in err
    assert "estimate" not in err


class _Away(SimulatedModel):
    """Answers every second call only."""

    asked = 0

    async def complete(self, request: Request) -> Response:
        self.asked += 1
        if self.asked % 2:
            raise RuntimeError("no answer")
        return await super().complete(request)


def test_every_request_counts_against_the_budget_also_those_that_are_tried_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": _Away(seed=1)}) as server:
        arguments = [
            "optimize",
            f"{_name(folder)}.py:answer",
            "rows.csv",
            "--model",
            f"{server.url}#m",
            "--rows",
            "3",
        ]
        code, out, err = call(capsys, *arguments, "--max-calls", "14")
        spent = re.search(r"spent: (\d+) calls", out)
        assert (code, spent and int(spent[1]), server.calls["m"]) == (0, 14, 14)
    assert "stopped early: budget: the budget of 14 calls" in err


def test_tokens_and_seconds_end_a_search_and_the_estimate_names_both(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1)}) as server:
        model = f"{server.url}#m"
        arguments = [
            "optimize",
            f"{_name(folder)}.py:answer",
            "rows.csv",
            "--model",
            model,
            "--rows",
            "40",
        ]
        code, out, err = call(capsys, *arguments, "--max-tokens", "20000", "--json")
        data = json.loads(out)
        assert (code, data["stopped"][:31]) == (0, "budget: the budget of 20000 tok")
        assert 17_000 < data["spent"]["tokens"] <= 20_000
        estimate = r"at most [\d,]+ runs, about [\d,]+ calls, [\d,]+ tokens, .*, \d+ s"
        assert re.search(f"estimate: {estimate}", err)
        code, _, err = call(capsys, *arguments, "--max-seconds", "0.001")
        assert code == 1
        assert "the budget of 0.001 seconds is used up" in err


def test_options_that_an_optimizer_does_not_know_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "optimize",
        f"{_name(folder)}.py:answer",
        "rows.csv",
        "--model",
        "http://127.0.0.1:1/v1#m",
    ]
    code, _, err = call(capsys, *arguments, "--optimizer", "BootstrapFewShot", "--trials", "9")
    assert code != 0
    assert "an option of --optimizer LabeledFewShot, RandomSearch, MIPROv2, Joint, GEPA, not" in err
    code, _, err = call(capsys, *arguments, "--optimizer", "RandomSearch", "--per-class", "2")
    assert "--per-class is an option of --optimizer LabeledFewShot, not of RandomSearch" in err
    code, _, err = call(capsys, *arguments, "--option", "kk=3")
    assert "LabeledFewShot does not accept option 'kk' from callers. It accepts: k: a whole" in err
    code, _, err = call(capsys, *arguments, "--option", "k=many")
    assert "'many' is not a whole number from 1 to 256" in err
    code, _, err = call(capsys, *arguments, "--option", "k")
    assert "--option takes NAME=VALUE, not 'k'" in err


def test_a_journal_of_another_model_is_refused_until_it_is_put_aside(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1), "n": SimulatedModel(seed=2)}) as server:
        files = ["--journal", "j.jsonl", "--max-calls", "400"]
        assert optimize(capsys, f"{server.url}#m", *files)[0] == 0
        before = (folder / "j.jsonl").read_bytes()
        code, _, err = optimize(capsys, f"{server.url}#n", *files)
        assert (code, server.calls.get("n")) == (1, None)
        assert f"the model was '{server.url}#m' and is" in err
        assert optimize(capsys, f"{server.url}#n", *files, "--fresh")[0] == 0
        assert server.calls["n"]
    assert (folder / "j.jsonl.old").read_bytes() == before


def test_eval_repeats_rows_writes_files_and_is_a_gate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served({"m": SimulatedModel(seed=1)}) as server:
        arguments = [
            "eval", f"{_name(folder)}.py:answer", "rows.csv", "--limit", "10", "--repeats", "3",
            "--model", f"{server.url}#m", "--html", "page.html", "--csv", "rows-out.csv",
        ]  # fmt: skip
        assert call(capsys, *arguments, "--min", "0.0")[0] == 0
        code, out, err = call(capsys, *arguments, "--min", "0.99", "--json")
        assert code == 1
        assert "below the minimum of 0.99" in err
        assert json.loads(out)["repeats"] == 3
        assert len((folder / "rows-out.csv").read_text().splitlines()) == 31
        assert "<table>" in (folder / "page.html").read_text()
        call_count = server.calls["m"]
        code, _, err = call(capsys, *arguments, "--csv", "nowhere/rows.csv")
        assert (code, server.calls["m"]) == (1, call_count)
        assert "'nowhere/rows.csv' cannot be written" in err


def test_eval_scores_several_metrics_on_the_rows_that_are_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "shortness.py").write_text(
        "def brief(example, prediction):\n    return len(prediction.answer) < 11\n"
    )
    rows = [
        {"question": f"question {n}", "answer": f"answer {n}", "fold": n % 3, "easy": n < 9}
        for n in range(30)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    with served({"m": SimulatedModel(seed=1)}) as server:
        arguments = [
            "eval",
            f"{_name(folder)}.py:answer",
            "rows.json",
            "--model",
            f"{server.url}#m",
            "--json",
        ]
        where = ["--where", "fold=1", "--where", "easy=true"]
        code, out, _ = call(
            capsys, *arguments, *where, "--metric", "f1", "--metric", "shortness.py:brief"
        )
        data = json.loads(out)
        assert (code, data["scored"], server.calls["m"]) == (0, 3, 3)
        assert list(data["metrics"]) == ["f1", "brief"]
        assert call(capsys, *arguments, "--where", "fold=4")[0] == 1


def test_optimize_trains_validates_and_tests_on_rows_of_their_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    parts = ["train"] * 12 + ["validation"] * 20 + ["test"] * 30
    lines = [f"question {n},answer {n},{part}" for n, part in enumerate(parts)]
    (folder / "rows.csv").write_text("\n".join(["question,answer,split", *lines]) + "\n")
    with served({"m": SimulatedModel(seed=1)}) as server:
        more = [
            "--validation",
            "split=validation",
            "--objective",
            "exact_match",
            "--objective",
            "-tokens",
        ]
        code, out, _ = optimize(capsys, f"{server.url}#m", *more, "--json")
        data = json.loads(out)
        assert code == 0
        assert {data["trials"][0]["rows"], data["trials"][-1]["rows"]} == {20}
        assert "on 30 held-out rows" in data["conclusion"]
        arguments = [
            "optimize",
            f"{_name(folder)}.py:answer",
            "rows.csv",
            "--validation",
            "split=validation",
        ]
        code, _, err = call(capsys, *arguments, "--model", f"{server.url}#m")
        assert code == 1
        assert "name the training rows by --where" in err


INTERRUPTING = """
import signal

calls = []


def stop(example, prediction):
    calls.append(example)
    if len(calls) == 1:
        signal.raise_signal(signal.SIGINT)
    return 1.0
"""


@pytest.fixture
def heeded_interrupt() -> Iterator[None]:
    """A shell that runs the tests in the background lets them ignore the signal; not here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupt")
@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ([], "with --journal FILE, a search continues after an interruption"),
        (["--journal", "j.jsonl"], "j.jsonl has what was done: the same command continues"),
    ],
)
def test_an_interrupted_search_says_how_to_continue(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], hint: str
) -> None:
    (folder / f"stop_{folder.name}.py").write_text(INTERRUPTING)
    program, metric = f"{_name(folder)}.py:answer", f"stop_{folder.name}.py:stop"
    code, _, err = call(
        capsys, "optimize", program, "rows.csv", "--backend", "mock", "--metric", metric, *more
    )
    assert code == 130
    assert hint in err


def test_the_name_of_a_program_creates_no_database(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["run", "answer"], ["eval", "answer", "rows.csv"]):
        code, _, err = call(capsys, *arguments)
        assert code == 1
        assert "there is no program 'answer', because nothing is stored here" in err
    assert not (folder / ".dspex").exists()
