"""`dspex eval` with slices, pass rates, agreement with people, and judges that are asked again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.answering_server import AnsweringServer
from tests.surfaces.cli.test_judges import call

PROGRAM = """
import dspex
from dspex.evaluation import Judge

qa = dspex.Predict("question -> answer")
polite = Judge("is polite")
"""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file with programs, in a working folder with rows of two topics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"parts_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    lines = [f"q{n},{'!' if n % 4 else '?'},{'ab'[n % 2]},{n % 3 != 0}" for n in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,answer,topic,human", *lines]) + "\n")
    return f"{name}.py"


@pytest.fixture
def model() -> Iterator[str]:
    with AnsweringServer({"answer": "!", "reason": "Curt.", "score": 0.25}) as server:
        yield server.model


PARTS = ("--slice-by", "topic", "--pass-at", "0.5", "--label", "human")


def test_parts_are_tables_json_a_page_and_stored(
    name: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("eval", f"{name}:qa", "rows.csv", "--metric", "exact_match", "--model", model)
    code, out, err = call(capsys, *command, *PARTS, "--html", "page.html")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert ["exact_match", "a", "6", "0", "0.500", "[0.19,", "0.81]"] in lines
    assert ["exact_match", "b", "6", "0", "1.000", "[0.61,", "1.00]"] in lines
    assert ["exact_match", "0.5", "0.750", "[0.47,", "0.91]"] in lines
    # 9 answers are right and 8 rated good, 6 of them both
    assert ["exact_match", "0.000", "0.583", "12", "3", "2"] in lines
    page = Path("page.html").read_text()
    for title in ("Slices: exact_match", "Pass rate", "Agreement with people"):
        assert title in page, title
    report = json.loads(call(capsys, *command, *PARTS, "--json")[1])
    assert report["agreement"]["exact_match"]["false_passes"] == 3
    code, out, err = call(capsys, "evaluation", "show", report["evaluation_id"])
    assert (code, "passes at" in out, "false_passes" in out) == (0, True, True), err
    stored = json.loads(call(capsys, "evaluation", "show", report["evaluation_id"], "--json")[1])
    assert stored["breakdown"]["slices"] == report["slices"]
    assert stored["configuration"]["slice_by"] == "topic"


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--slice-by", "topik", "Did you mean 'topic'"),
        ("--label", "humans", "Did you mean 'human'"),
        ("--label", "answer", "a label is a number"),
        ("--pass-at", "half", "valid float"),
        ("--judge-repeats", "3", "no metric is one"),
    ],
)
def test_a_wrong_part_is_refused(
    name: str, model: str, capsys: pytest.CaptureFixture[str], option: str, value: str, problem: str
) -> None:
    command = ("eval", f"{name}:qa", "rows.csv", "--model", model)
    code, out, err = call(capsys, *command, option, value)
    assert (code != 0, problem in err) == (True, True), (out, err)


def test_a_judge_is_asked_several_times(
    name: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--limit", "3", "--model", model, "--judge", f"{name}:polite")
    command = ("eval", f"{name}:qa", "rows.csv", *options, "--judge-repeats", "3")
    code, out, err = call(capsys, *command, "--html", "page.html")
    assert code == 0, err
    line = out[out.index("reliability") :].splitlines()[1]
    assert line.split()[:4] == ["polite", "3", "3", "0.000"]
    assert "Judges asked again" in Path("page.html").read_text()
    report = json.loads(call(capsys, *command, "--json")[1])
    assert report["judge_variance"]["polite"]["reliability"] is None  # all scores are equal
    assert report["judge_usage"]["calls"] == 9
