"""Data sets and any action, from the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.surfaces.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as result:
        main(list(arguments))
    output = capsys.readouterr()
    return int(result.value.code or 0), output.out or output.err


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    code, output = call(capsys, *arguments)
    assert code == 0, output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("q,a\nx,1\ny,many\n")
    return tmp_path


def test_a_file_becomes_a_data_set_that_is_listed_checked_and_sampled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "dataset", "add", "d", "rows.csv", "--split", "test")
    code, out = call(capsys, "dataset", "list", "--json")
    assert [(row["name"], row["version"], row["split"]) for row in json.loads(out)["datasets"]] == [
        ("d", 1, "test")
    ]
    code, out = call(capsys, "dataset", "validate", "d", "--signature", "q -> a: int")
    assert code == 1
    assert "rows that fit: 1; rows that do not: 1" in out
    code, out = call(capsys, "dataset", "sample", "d", "--count", "1", "--seed", "3")
    assert json.loads(out)[0]["q"] in {"x", "y"}
    assert json.loads(call(capsys, "dataset", "show", "d", "--json")[1])["row_count"] == 2
    assert "there is no such file" in call(capsys, "dataset", "add", "d", "none.csv")[1]


def test_any_action_is_carried_out_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def do(*arguments: str) -> Any:
        code, out = call(capsys, "do", *arguments)
        assert code == 0, out
        return json.loads(out)

    record = do(
        "create_program",
        "name=qa",
        "signature=q -> a",
        "backend=mock",
        'configuration={"store_inputs": true}',
    )
    assert (record["status"], "lock_version" in record) == ("ready", False)
    execution = do(
        "execute_program", "program=qa", 'inputs={"q": "?"}', "idempotency_key=k", "timeout=30"
    )
    assert (
        do("execute_program", "program=qa", 'inputs={"q": "?"}', "idempotency_key=k")["id"]
        == execution["id"]
    )
    for another in ("b", "a"):
        do("create_program", f"name={another}", "signature=q -> a", "backend=mock")
    listed = json.loads(
        call(
            capsys,
            *("program", "list", "--sort", "name", "--where", "execution_count_lte=0", "--json"),
        )[1]
    )
    assert [row["name"] for row in listed["programs"]] == ["a", "b"]
    data = json.loads(
        call(
            capsys,
            *(
                "execution",
                "list",
                "--sort",
                "-duration_ms",
                "--where",
                "status=completed",
                "--json",
            ),
        )[1]
    )
    assert [row["id"] for row in data["executions"]] == [execution["id"]]
    assert call(capsys, "execution", "list", "--where", "status=failed")[1].startswith(
        "no execution"
    )
    assert (
        "Did you mean 'status'" in call(capsys, "execution", "list", "--where", "statu=failed")[1]
    )
    metrics = do("program_metrics", "name=qa")
    assert (metrics["total"], metrics["program"]["name"]) == (1, "qa")
    run(capsys, "dataset", "from-executions", "d", "--program", "qa")
    assert "deleted 0" in call(capsys, "db", "prune", "--days", "1")[1]
    assert "create_program" in call(capsys, "do")[1]
    assert "Did you mean 'program_metrics'" in call(capsys, "do", "program_metric")[1]
    assert "is not a FIELD=VALUE" in call(capsys, "do", "program_metrics", "nam=qa")[1]
    assert "create_program: " in call(capsys, "do", "create_program", "name=5")[1]


def test_versions_are_listed_compared_and_activated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for instructions in ("Be brief.", "Be kind."):
        (folder / "app.py").write_text(
            f"import dspex\nqa = dspex.Predict(dspex.Signature('q -> a', {instructions!r}))\n"
        )
        run(capsys, "push", "app.py:qa")
        sys.modules.pop("app", None)
    rows = json.loads(call(capsys, "program", "versions", "qa", "--json")[1])["program_versions"]
    assert [(row["number"], row["current"]) for row in rows] == [(2, True), (1, False)]
    lines = call(capsys, "program", "diff", "qa", "1", "2")[1].splitlines()
    assert "  - Be brief." in lines
    assert "  + Be kind." in lines
    assert "are the same" in call(capsys, "program", "diff", "qa", "1", "1")[1]
    run(capsys, "program", "activate", "qa", "1")
    marks = call(capsys, "program", "versions", "qa")[1].splitlines()[1:]
    assert [line.split()[:2][1] == "*" for line in marks] == [False, True]
    assert "has no version 7" in call(capsys, "program", "activate", "qa", "7")[1]
    assert "no active workspace 'x'" in call(capsys, "program", "list", "--workspace", "x")[1]


def test_lists_are_narrowed_to_the_rows_of_what_they_refer_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        run(capsys, "program", "create", name, "q -> a", "--backend", "mock")
        run(capsys, "run", name, "q=?")
    run(capsys, "dataset", "add", "d", "rows.csv")
    run(capsys, "evaluation", "create", "one", "--dataset", "d")

    def count(noun: str, *options: str) -> int:
        code, out = call(capsys, noun, "list", *options, "--json")
        assert code == 0, out
        return len(json.loads(out)[f"{noun}s"])

    assert count("execution") == 2
    assert count("execution", "--program", "one") == 1
    counts = [count("evaluation", "--program", name, "--dataset", "d") for name in ("one", "two")]
    assert counts == [1, 0]
    code, out = call(capsys, "execution", "list", "--program", "three")
    assert (code, "there is no program 'three'" in out) == (1, True)


def test_an_option_that_is_no_time_or_no_scope_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = call(capsys, "key", "create", "k", "read", "--expires-at", "tomorrow")
    assert (code, "expires_at: 'tomorrow' is not a time such as" in out) == (1, True), out
    assert "Did you mean 'read'" in call(capsys, "key", "create", "k", "reed")[1]
    code, out = call(capsys, "program", "show", "nothing")
    assert (code, "there is no program 'nothing'" in out) == (1, True)
