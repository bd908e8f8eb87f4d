"""What `dspex eval` and `dspex optimize` leave in the store."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.surfaces.cli.test_commands import call

CODE = "import dspex\nqa = dspex.Predict('question -> answer')\ndef half(row, reply): return 0.5\n"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"results_{abs(hash(request.node.nodeid))}"
    Path(f"{name}.py").write_text(CODE)
    lines = [f"q{n},a{n % 2},{'test' if n > 13 else 'train'}" for n in range(20)]
    Path("data.csv").write_text("\n".join(["question,answer,split", *lines]) + "\n")
    return f"{name}.py:qa"


def listed(capsys: pytest.CaptureFixture[str], noun: str, plural: str) -> Any:
    code, out, _ = call(capsys, noun, "list", "--json")
    assert code == 0
    return json.loads(out)[plural]


def test_an_evaluation_is_stored_with_its_rows(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = target.partition(".")[0]
    options = ("--where", "split=test", "--backend", "mock", "--metric", f"f1,{module}.py:half")
    code, _, err = call(capsys, "eval", target, "data.csv", *options)
    (row,) = listed(capsys, "evaluation", "evaluations")
    assert (code, f"stored: dspex evaluation show {row['id'][-8:]}" in err) == (0, True)
    assert (row["status"], row["mean"], row["metrics"]) == (
        "completed",
        0.0,
        ["f1", f"{module}:half"],
    )
    assert len(row["rows"]) == row["progress"]["done"] == 6
    assert "6 of 6 rows" in call(capsys, "job", "list")[1]
    (data,) = listed(capsys, "dataset", "datasets")
    assert (data["name"], data["row_count"], row["dataset_id"]) == (
        "data[split=test]",
        6,
        data["id"],
    )
    report = json.loads(call(capsys, "eval", target, "data.csv", *options, "--json")[1])
    assert report["evaluation_id"] == listed(capsys, "evaluation", "evaluations")[0]["id"]
    assert len(listed(capsys, "dataset", "datasets")) == 1


def test_an_optimization_is_stored_with_the_version_that_it_made(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = target.partition(".")[0]
    code, out, err = call(
        capsys,
        *("optimize", target, "data.csv", "--backend", "mock", "--metric", f"{module}.py:half"),
        *("--where", "split=train", "--test", "split=test", "--insist", "--store"),
        *("--optimizer", "LabeledFewShot", "--option", "candidates=2", "--max-calls", "500"),
    )
    assert code == 0, out + err
    (row,) = listed(capsys, "optimization", "optimization_jobs")
    assert f"stored: dspex optimization show {row['id'][-8:]}" in err
    assert (row["status"], row["optimizer"], row["budget"]) == (
        "completed",
        "LabeledFewShot",
        {"calls": 500},
    )
    assert row["configuration"]["options"] == {"candidates": 2}
    trials = json.loads(call(capsys, "job", "show", row["id"], "--json")[1])["trials"]
    assert [trial["trial"] for trial in trials] == [0, 1, 2]
    assert len(listed(capsys, "trial", "trials")) == row["progress"]["trials"] == 3
    versions = json.loads(call(capsys, "program", "versions", "qa", "--json")[1])
    first = versions["program_versions"][-1]
    assert row["program_version_id"] == first["id"]
    assert (row["best"]["trial"], row["result_version_id"]) == (0, None)
    shown = call(capsys, "job", "show", row["id"])[1]
    assert "trial 0 ties with trials 1 and 2" in shown


def test_a_stored_optimization_shows_importance_ablation_and_the_prompts(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = target.partition(".")[0]
    rate = "def rate(row, reply, calls=[0]): calls[0] += 1; return min(1.0, calls[0] / 60)\n"
    Path(f"{module}.py").write_text(CODE + rate)
    code, out, err = call(
        capsys,
        *("optimize", target, "data.csv", "--backend", "mock", "--metric", f"{module}.py:rate"),
        *("--where", "split=train", "--test", "split=test", "--insist", "--store", "--ablate"),
        *("--optimizer", "LabeledFewShot", "--option", "candidates=2"),
    )
    assert code == 0, out + err
    assert "the winner against itself without each value" in out
    (row,) = listed(capsys, "optimization", "optimization_jobs")
    assert row["best"]["ablation"].keys() == row["best"]["values"].keys() == {"self.demos"}
    assert row["best"]["importance"].keys() >= {"self.demos"}
    code, text, _ = call(capsys, "optimization", "show", row["id"])
    assert code == 0
    for part in ("without each value", "prompts:", "+++ self, after", "demos  "):
        assert part in text, part
    stored = json.loads(call(capsys, "optimization", "show", row["id"], "--json")[1])
    assert stored["best"]["prompt_changes"] == row["best"]["prompt_changes"] != ""


def test_what_cannot_be_stored_is_shown_and_warned_about(
    target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex.operations.datasets.actions.MOST_ROWS", 3)
    code, out, err = call(capsys, "eval", target, "data.csv", "--backend", "mock")
    assert (code, "20 scored, 0 failed" in out) == (0, True)
    assert "warning: the result is not stored: rows: " in err
    assert listed(capsys, "evaluation", "evaluations") == []
