"""What daily commands do to a stored program, and what they say of its data."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.execution.adapters.registry import ADAPTERS
from dspex.surfaces.cli import main
from tests.support.answering_server import AnsweringServer

pytestmark = pytest.mark.full
CODE = "import dspex\nqa = dspex.Predict(dspex.Signature('q -> team', {!r}))\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("q,team\nx,1\n")
    (tmp_path / "typo.csv").write_text("q,tem\nx,1\n")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    output = capsys.readouterr()
    assert not end.value.code, output
    return output.out, output.err


def push(capsys: pytest.CaptureFixture[str], instructions: str) -> str:
    Path("app.py").write_text(CODE.format(instructions))
    sys.modules.pop("app", None)
    return call(capsys, "push", "app.py:qa")[0]


def current(capsys: pytest.CaptureFixture[str]) -> int:
    lines = call(capsys, "program", "versions", "qa")[0].splitlines()
    return next(int(line.split()[0]) for line in lines if " * " in f"{line} ")


def test_running_or_scoring_older_code_does_not_undo_a_newer_version(
    capsys: pytest.CaptureFixture[str],
) -> None:
    push(capsys, "Be brief.")
    push(capsys, "Be kind.")
    Path("app.py").write_text(CODE.format("Be brief."))
    sys.modules.pop("app", None)
    call(capsys, "run", "app.py:qa", "q=x", "--backend", "mock")
    (run,) = json.loads(call(capsys, "execution", "list", "--json")[0])["executions"]
    call(capsys, "eval", "app.py:qa", "rows.csv", "--backend", "mock")
    assert current(capsys) == 2
    versions = json.loads(call(capsys, "program", "versions", "qa", "--json")[0])
    numbers = {row["id"]: row["number"] for row in versions["program_versions"]}
    assert numbers[run["program_version_id"]] == 1
    assert (
        "version 1 is current again, instead of version 2" in call(capsys, "push", "app.py:qa")[0]
    )
    assert current(capsys) == 1


def test_a_misspelled_column_of_labels_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.py").write_text("import dspex\nqa = dspex.Predict('q -> team, urgent')\n")
    Path("typo.csv").write_text("q,tem,urgent\nx,1,2\n")
    error = call(capsys, "eval", "two.py:qa", "typo.csv", "--backend", "mock")[1]
    assert "no column is named 'team', so this output is not compared. Did you mean 'tem'?" in error


def test_a_prompt_shows_what_retrieval_finds(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.md").write_text("A lamp may be sent back within thirty days.")
    call(capsys, "collection", "create", "notes", "--embedder", "none")
    Path("documents.py").write_text(
        "import dspex\n"
        "notes = dspex.Collection.from_files('notes.md')\n"
        "memory = dspex.RAG('q -> a', notes, mode='lexical')\n"
        "stored = dspex.RAG('q -> a', 'notes', mode='lexical')\n"
    )
    call(capsys, "collection", "add", "notes", "notes.md")
    for name in ("memory", "stored"):
        prompt = call(capsys, "prompt", f"documents.py:{name}", "q=lamp")[0]
        assert "within thirty days" in prompt


def test_lists_of_jobs_name_what_they_work_on_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    call(capsys, "program", "create", "support", "q -> team", "--backend", "mock")
    call(capsys, "dataset", "add", "questions", "rows.csv")
    for _ in range(2):
        call(capsys, "evaluation", "create", "support", "--dataset", "questions")
    for noun, names in (("evaluation", ("support", "questions", "mean")), ("job", ("support",))):
        text = call(capsys, noun, "list")[0]
        assert all(name in text for name in (*names, "queued")), text
        assert re.search(r"\d\d-\d\d \d\d:\d\d", text), text
        assert max(map(len, text.splitlines())) <= 80
    row = json.loads(call(capsys, "evaluation", "list", "--json")[0])["evaluations"][0]
    assert "program" not in row


def test_citations_are_shown_as_text_with_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("notes.md").write_text("A lamp may be sent back within thirty days.")
    reply = {"text": "Within thirty days.", "sources": [{"passage": 1, "sentence": 1}]}
    answer = json.dumps({"statements": [reply]})
    Path("documents.py").write_text(
        "import dspex\n"
        "notes = dspex.Collection.from_files('notes.md')\n"
        "ask = dspex.RAG('q -> a: Cited', notes, mode='lexical')\n"
    )
    rows = "q,a\nHow long can I return a lamp?,a year\n"
    Path("lamps.csv").write_text(rows)
    with AnsweringServer({"reasoning": "-", "a": answer}) as server:
        model = ("--model", server.model)
        shown = call(capsys, "run", "documents.py:ask", "q=lamp", *model)[0]
        worst = call(capsys, "eval", "documents.py:ask", "lamps.csv", *model)[1]
    assert 'Within thirty days. [1]\n[1] "A lamp may be sent back within thirty days."' in shown
    assert "statements" not in shown
    assert "a 'Within thirty days.', expected 'a year'" in worst


def test_scores_and_searches_act_in_a_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "workspace", "create", "team")
    Path("app.py").write_text(CODE.format("Be brief."))
    Path("rows.csv").write_text("q,team\n" + "".join(f"{n},{n}\n" for n in range(12)))
    mock = ("--workspace", "team", "--backend", "mock")
    call(capsys, "eval", "app.py:qa", "rows.csv", *mock)
    assert len(json.loads(call(capsys, "program", "list", "--json")[0])["programs"]) == 0
    (row,) = json.loads(call(capsys, "program", "list", "--workspace", "team", "--json")[0])[
        "programs"
    ]
    assert row["name"] == "qa"
    call(capsys, "optimize", "qa", "rows.csv", *mock, "--option", "k=2", "--option", "candidates=1")


ADAPTER = """
from dspex.adapters import ChatAdapter


class WholeAdapter(ChatAdapter):
    name = "whole"

    def parse(self, signature, reply):
        return {name: reply for name in signature.output_fields}
"""


@pytest.fixture
def _no_adapters() -> Iterator[None]:
    """Unload the module of the test's adapter; its registration ends with every test."""
    yield
    sys.modules.pop("layouts", None)


@pytest.mark.usefixtures("_no_adapters")
def test_a_program_names_an_adapter_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("layouts.py").write_text(ADAPTER)
    Path("app.py").write_text("import dspex\nqa = dspex.Predict('q -> team', adapter='whole')\n")
    sys.modules.pop("app", None)
    Path("dspex.toml").write_text('[adapters]\nwhole = "layouts:Whole"\n')
    with pytest.raises(SystemExit):
        main(["push", "app.py:qa"])
    assert "module 'layouts' has no 'Whole'" in capsys.readouterr().err
    Path("dspex.toml").write_text('[adapters]\nwhole = "layouts:WholeAdapter"\n')
    assert "version 1" in call(capsys, "push", "app.py:qa")[0]
    ADAPTERS._custom.clear()
    sys.modules.pop("app", None)
    with AnsweringServer({"team": "cards"}) as server:
        output = call(capsys, "run", "app.py:qa", "q=x", "--model", server.model)[0]
    assert "[[ ## team ## ]]\ncards" in output  # the whole reply
