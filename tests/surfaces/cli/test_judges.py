"""`--judge`: from a file, a saved file or the store, in evaluations, searches and jobs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.surfaces.cli import main
from tests.support.answering_server import AnsweringServer

PROGRAM = """
import dspex
from dspex.evaluation import Judge

qa = dspex.Predict("question -> answer")
polite = Judge("is polite")
mute = dspex.Predict("outputs -> reason")
"""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file with programs, in a working folder with rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"judges_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    rows = "".join(f"question {n},!\n" for n in range(12))
    (tmp_path / "rows.csv").write_text(f"question,answer\n{rows}")
    return f"{name}.py"


@pytest.fixture
def models() -> Iterator[tuple[AnsweringServer, AnsweringServer]]:
    """The models of the program and of its judge."""
    with (
        AnsweringServer({"answer": "!"}) as program,
        AnsweringServer({"reason": "Curt.", "score": 0.25}) as judge,
    ):
        yield program, judge


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line; return its exit code, and what it printed on both streams."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err


def test_a_judge_of_a_file_scores_on_its_model(
    name: str,
    models: tuple[AnsweringServer, AnsweringServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, judge = models
    options = ["--judge", f"{name}:polite", "--model", program.model, "--judge-model", judge.model]
    command = ("eval", f"{name}:qa", "rows.csv", "--limit", "2")
    code, out, err = call(capsys, *command, *options)
    assert code == 0, err
    assert "judge cost" in out
    assert "polite: 'Curt.'" in err
    assert (len(program.asked), len(judge.asked)) == (2, 2)
    _, out, _ = call(capsys, *command, *options, "--metric", "exact_match", "--json")
    report = json.loads(out)
    assert list(report["metrics"]) == ["exact_match", "polite"]
    assert report["metrics"]["polite"]["mean"] == 0.25
    assert report["judge_usage"]["calls"] == report["usage"]["calls"] == 2
    assert report["rows"][0]["reasons"] == {"polite": "Curt."}
    _, out, _ = call(capsys, "execution", "list", "--program", "polite", "--json")
    assert len(json.loads(out)["executions"]) == 4


def test_a_judge_is_stored_listed_and_named(
    name: str,
    models: tuple[AnsweringServer, AnsweringServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, judge = models
    for program in ("qa", "polite"):
        assert call(capsys, "push", f"{name}:{program}")[0] == 0
    assert "polite" in call(capsys, "program", "list")[1]
    assert "is polite" in call(capsys, "program", "export", "polite")[1]
    options = ("--judge", "polite", "--judge-model", judge.model, "--limit", "1")
    code, out, err = call(capsys, "eval", "qa", "rows.csv", "--model", judge.model, *options)
    assert code == 1, out  # the model of the judge cannot answer for the program
    assert "none of 1 row" in err


def test_a_search_maximizes_the_judge(
    name: str,
    models: tuple[AnsweringServer, AnsweringServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, judge = models
    options = ["--judge", f"{name}:polite", "--model", program.model, "--judge-model", judge.model]
    command = ("optimize", f"{name}:qa", "rows.csv", "--option", "candidates=1", "--option", "k=1")
    code, out, err = call(
        capsys, *command, *options, "--rows", "3", "--maximize", "polite", "--json"
    )
    assert code == 0, err
    outcome = json.loads(out)
    assert {trial["score"] for trial in outcome["trials"]} == {0.25}
    assert outcome["spent"]["calls"] == len(program.asked) + len(judge.asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge-model", "local/x"], "--judge-model is the model of --judge; give --judge too"),
        (["--judge", "FILE:mute"], "the judge 'mute' needs one output that is a number or a bool"),
        (["--judge", "absent"], "there is no program 'absent'"),
        (["--judge", "FILE:polit"], "Did you mean 'polite'"),
        (["--judge", "FILE:polite", "--judge-model", "nobody/x"], "nobody"),
    ],
)
@pytest.mark.parametrize("command", [["eval"], ["optimize", "--option", "k=1"]])
def test_a_wrong_judge_is_one_clear_message(
    name: str,
    command: list[str],
    options: list[str],
    message: str,
    models: tuple[AnsweringServer, AnsweringServer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, _ = models
    options = [option.replace("FILE", name) for option in options]
    arguments = (*command, f"{name}:qa", "rows.csv", "--model", program.model, *options)
    code, _, err = call(capsys, *arguments)
    assert code in {1, 2}
    assert message in err
    assert not program.asked
