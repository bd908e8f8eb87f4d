"""`dspex import`, `--backend` and `dspex worker list` on the command line.

The workers are real, and one server is scripted.
"""

import csv
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex.settings import Settings
from dspex.surfaces.cli import main
from dspex.surfaces.cli.serve import with_isolation
from tests.support.answering_server import AnsweringServer

DSPY = pytest.mark.skipif(
    importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
)
RAG = """
import dspy

class Rag(dspy.Module):
    def __init__(self, hops: int = 1):
        super().__init__()
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.ChainOfThought("question, query -> answer: int")
        self.hops = hops

    def forward(self, question: str):
        found = [self.search(question=question).query for _ in range(self.hops)]
        return self.answer(question=question, query=found[-1])

class Needs(dspy.Module):
    def __init__(self, name):
        super().__init__()

NUMBER = 3

class More(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.ChainOfThought("question, notes -> answer: int")

    def forward(self, question, notes=("a", "b"), k=2):
        if k > 5:
            return dspy.Prediction(answer=k)
        pred = self.answer(question=question, notes=list(notes))
        taken = type(notes).__name__
        return dspy.Prediction(answer=pred.answer, sources=list(notes)[:k], taken=taken)

class Hidden(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> query")
        self.makers = [lambda text: dspy.Prediction(size=len(text))]

    def forward(self, question: str):
        return self.makers[0](self.answer(question=question).query)
"""
MIXED = """
import os
import dspex

class Mixed(dspex.Module):
    signature = "question -> answer: int"

    def __init__(self):
        self.search = dspex.Predict("question -> query")
        self.answer = dspex.ChainOfThought("question, query -> answer: int")

    async def forward(self, question):
        found = await self.search.acall(question=question)
        return {"answer": (await self.answer.acall(question=question, query=found.query)).answer}

class Plain(Mixed):
    def forward(self, question):
        found = self.search(question=question)
        return {"answer": self.answer(question=question, query=found.query).answer}

@dspex.program
def where(text: str) -> int:
    \"\"\"Say where it runs.\"\"\"
    print("a line of", text)
    return os.getpid()
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringServer]:
    """A folder with programs, and a model that answers them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rag.py").write_text(RAG)
    (tmp_path / "native.py").write_text(
        "import dspex\nanswer = dspex.Predict('question -> answer')\n"
    )
    (tmp_path / f"mixed_{tmp_path.name}.py").write_text(MIXED)
    (tmp_path / "data.csv").write_text("question,answer\na,7\nb,7\nc,8\n")
    with AnsweringServer({"query": "q", "reasoning": "r", "answer": 7}) as running:
        monkeypatch.setenv("DSPEX_MODEL", running.model)
        yield running


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, out + err
    return json.loads(out)


@pytest.mark.full
@DSPY
def test_a_dspy_module_is_stored_versioned_and_run_and_never_imported_here(
    server: AnsweringServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = "dspy" in sys.modules
    code, out, err = call(capsys, "import", "rag.py:Rag", "--init", '{"hops": 2}')
    assert (code, out) == (0, "Rag: version 1 (question, reasoning, answer)\n"), err
    assert found(capsys, "import", "rag:Rag", "--init", '{"hops": 2}')["new"] is False
    ran = found(capsys, "run", "Rag", "question=?")
    assert (ran["backend"], ran["outputs"], len(server.asked)) == (
        "dspy",
        {"reasoning": "r", "answer": 7},
        3,
    )
    (tmp_path / "rag.py").write_text(RAG.replace("found[-1]", "found[0]"))
    code, _, err = call(capsys, "run", "Rag", "question=?")
    assert code == 1
    assert "import it again" in err
    assert found(capsys, "import", "rag.py:Rag")["version"] == 2
    assert [row["status"] for row in found(capsys, "execution", "list")["executions"]] == [
        "failed",
        "completed",
    ]
    assert (
        call(
            capsys,
            "optimize",
            "Rag",
            "data.csv",
            "--optimizer",
            "BootstrapFewShot",
            "--csv",
            "trials.csv",
        )[0]
        == 0
    )
    data = json.loads(
        list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))[-1]["values"]
    )
    assert data["search.demos"] == [
        {"question": "a", "query": "q"},
        {"question": "b", "query": "q"},
    ]
    assert data["answer.predict.demos"][0] == {
        "question": "a",
        "query": "q",
        "reasoning": "r",
        "answer": 7,
    }
    assert ("dspy" in sys.modules) == before


@pytest.mark.full
@DSPY
def test_a_state_that_dspy_saved_is_stored_with_what_it_belongs_to(
    server: AnsweringServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = {
        "traces": [],
        "train": [],
        "demos": [{"question": "2 + 2", "reasoning": "sum", "answer": 4}],
        "lm": None,
    }
    fields = [
        {"prefix": name, "description": f"the {name}"}
        for name in ("question", "reasoning", "answer")
    ]
    state = {
        "predict": {**predictor, "signature": {"instructions": "Add up.", "fields": fields}},
        "metadata": {},
    }
    (tmp_path / "adder.json").write_text(json.dumps(state))
    code, _, err = call(capsys, "import", "adder.json")
    assert code == 1
    assert "(predict), which names no fields" in err
    record = ["import", "adder.json", "--signature", "question -> answer: int", "--module"]
    assert "this module has self" in call(capsys, *record, "predict")[2]
    assert found(capsys, *record, "chain_of_thought")["version"] == 1
    ran = found(capsys, "run", "adder", "question=?")
    assert (ran["backend"], ran["outputs"]["answer"]) == ("dspy", 7)
    prompt = json.dumps(server.asked[-1]["messages"])
    assert all(text in prompt for text in ("Add up.", "2 + 2", "the answer"))
    changed = {"predict": {**state["predict"], "demos": []}}
    (tmp_path / "adder.json").write_text(json.dumps(changed))
    assert found(capsys, "import", "adder.json", "--into", "adder")["version"] == 2

    code, _, err = call(capsys, "import", "adder.json", "--into", "rag.py:Rag")
    assert code == 1
    assert "predictors predict; this one has search, answer.predict" in err
    short = {"search": {**predictor, "signature": {"instructions": "", "fields": fields[:1]}}}
    (tmp_path / "rag.json").write_text(json.dumps({**short, "answer.predict": short["search"]}))
    code, _, err = call(capsys, "import", "rag.json", "--into", "rag.py:Rag")
    assert "the state has 1 fields for the predictor 'search', which has question, query" in err
    four = [*fields, {"prefix": "x", "description": "d"}]
    whole = {
        "search": {
            **predictor,
            "demos": [],
            "signature": {"instructions": "Find it.", "fields": fields[:2]},
        },
        "answer.predict": {
            **predictor,
            "demos": [],
            "signature": {"instructions": "", "fields": four},
        },
    }
    (tmp_path / "rag.json").write_text(json.dumps(whole))
    assert (
        found(capsys, "import", "rag.json", "--into", "rag.py:Rag", "--name", "better")["version"]
        == 1
    )
    assert found(capsys, "run", "better", "question=?")["outputs"]["answer"] == 7
    assert "Find it." in json.dumps(server.asked[-2]["messages"])


@pytest.mark.full
@DSPY
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rag.py:Nothing"], "has no attribute 'Nothing'"),
        (["rag.py:NUMBER"], "is not a dspy module but int"),
        (["native.py:answer"], "which needs no import: dspex run native:answer"),
        (["rag.py:Needs"], "give its arguments (init)"),
        (["nowhere:X"], "cannot import 'nowhere:X'"),
    ],
)
def test_a_source_that_is_no_program_of_dspy_is_one_clear_message(
    server: AnsweringServer, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "import", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_an_import_that_needs_no_worker_to_be_refused(
    server: AnsweringServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "old.pkl").write_bytes(b"x")
    for arguments, text in (
        (["nowhere.json"], "cannot read 'nowhere.json'"),
        (["broken.json"], "is not JSON"),
        (["list.json"], "does not hold the state"),
        (["old.pkl"], "may hold a pickle"),
        (["nowhere.py:X"], "does not exist"),
        (["rag.py:Rag", "--init", "["], "--init is not JSON"),
        (["rag.py:Rag", "--into", "x"], "a module needs none"),
    ):
        code, _, err = call(capsys, "import", *arguments)
        assert code == 1
        assert text in err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'dspex[dspy]'" in call(capsys, "import", "rag.py:Rag")[2]
    mixed = f"mixed_{tmp_path.name}.py:Mixed"
    err = call(capsys, "run", mixed, "question=?", "--backend", "dspy")[2]
    assert "pip install 'dspex[dspy]'" in err


@pytest.mark.bridge
def test_one_program_runs_natively_and_in_a_worker_and_each_execution_says_where(
    server: AnsweringServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = f"mixed_{tmp_path.name}.py:Mixed"
    places = [
        found(capsys, "run", target, "question=?", *flags)["backend"]
        for flags in ([], ["--backend", "isolated"])
    ]
    assert places == ["native", "isolated"]
    report = found(capsys, "eval", target, "data.csv", "--backend", "isolated")
    assert report["metrics"]["exact_match"]["mean"] == pytest.approx(2 / 3)
    monkeypatch.setenv("DSPEX_ISOLATION", "process")
    assert found(capsys, "run", "Mixed", "question=?")["backend"] == "isolated"
    monkeypatch.setenv("DSPEX_TEST_MODE", "1")
    assert found(capsys, "run", "Mixed", "question=?")["backend"] == "mock"
    assert found(capsys, "run", "Mixed", "question=?", "--backend", "native")["backend"] == "native"
    rows = [
        (row["backend"], row["outputs"]["answer"])
        for row in found(capsys, "execution", "list")["executions"]
    ]
    assert rows[2:] == [*[("isolated", 7)] * 5, ("native", 7)]
    code, out, err = call(
        capsys, "run", f"mixed_{tmp_path.name}.py:where", "text=mine", "--backend", "isolated"
    )
    assert code == 0
    assert out.startswith("result: ")
    assert "isolated-0: a line of mine" in err
    code, out, err = call(capsys, "run", "Mixed", "question=?", "--backend", "isolatd")
    assert (code, out) == (1, "")
    assert "Did you mean 'isolated'?" in err
    assert len(found(capsys, "execution", "list")["executions"]) == 9
    assert found(capsys, "worker", "list") == {"job_workers": [], "processes": [], "next": None}
    assert "no worker is running" in call(capsys, "worker", "list")[1]


@pytest.mark.full
@DSPY
def test_the_same_program_on_dspy_gives_the_same_outputs_and_scores(
    server: AnsweringServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = f"mixed_{tmp_path.name}.py:Plain"
    for name, ran in (("native", "native"), ("dspy", "hybrid"), ("isolated", "isolated")):
        item = found(capsys, "run", plain, "question=?", "--backend", name)
        assert (item["backend"], item["outputs"]) == (ran, {"answer": 7})
    target = f"mixed_{tmp_path.name}.py:Mixed"
    native, dspy = [
        found(capsys, "run", target, "question=?", "--backend", name) for name in ("native", "dspy")
    ]
    assert (native["outputs"], native["backend"]) == (dspy["outputs"], "native")
    assert dspy["backend"] == "hybrid"
    trace = found(capsys, "execution", "show", dspy["id"])["trace"]
    assert [
        span["path"]
        for span in trace["spans"]
        if (span["kind"], span["name"]) == ("backend", "dspy")
    ] == [
        "search",
        "answer",
    ]
    means = [
        found(capsys, "eval", target, "data.csv", "--backend", name)["metrics"]["exact_match"][
            "mean"
        ]
        for name in ("native", "dspy")
    ]
    assert means == [pytest.approx(2 / 3)] * 2
    code, _, err = call(
        capsys, "run", f"mixed_{tmp_path.name}.py:where", "text=x", "--backend", "dspy"
    )
    assert code == 1
    assert "runs no part of this program" in err


@pytest.mark.bridge
def test_doctor_says_whether_the_interpreter_for_dspy_has_it(
    server: AnsweringServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\necho 'No package metadata was found for dspy' >&2\nexit 1\n")
    without.chmod(0o755)
    monkeypatch.setenv("DSPEX_DSPY_INTERPRETER", str(without))
    code, out, _ = call(capsys, "doctor")
    assert code == 1
    assert f"{without} has no dspy: No package metadata was found for dspy" in out
    assert "-m pip install 'dspy[optuna]==3.4.*'" in out


def test_a_server_beyond_loopback_isolates_code_unless_the_settings_say_otherwise() -> None:
    assert [with_isolation(Settings(host=host)).isolation for host in ("127.0.0.1", "0.0.0.0")] == [  # noqa: S104
        None,
        "process",
    ]
    assert with_isolation(Settings(host="0.0.0.0", isolation="inline")).isolation == "inline"  # noqa: S104


@DSPY
@pytest.mark.full
def test_what_a_program_returns_beyond_its_contract_is_shown_recorded_and_compared(
    server: AnsweringServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert found(capsys, "import", "rag.py:More")["fields"] == ["question", "notes", "k", "answer"]
    ran = found(capsys, "run", "More", "question=2024")
    assert ran["outputs"] == {"answer": 7, "sources": ["a", "b"], "taken": "tuple"}
    assert found(capsys, "execution", "show", ran["id"])["outputs"] == ran["outputs"]
    assert 'sources: ["n"]' in call(capsys, "run", "More", "question=x", 'notes=["n"]', "k=1")[1]
    rows = [
        {"question": "q", "answer": 7, "sources": ["a", "b"]},
        {"question": "q", "answer": 7, "sources": ["b"]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "0.500" in call(capsys, "eval", "More", "rows.jsonl")[1]
    assert (
        found(capsys, "import", "rag.py:More", "--signature", "question -> answer: int, missing")[
            "version"
        ]
        == 2
    )
    code, out, err = call(capsys, "run", "More", "question=x")
    assert code == 1, out + err
    assert (
        "rag:More returned answer, sources, taken, which does not fit its signature (given at "
        "import)" in err
    )
    assert "--signature 'question -> answer: int, sources: list, taken'" in err


@DSPY
@pytest.mark.full
def test_a_guessed_contract_is_named_as_one_and_loses_no_answer(
    server: AnsweringServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        "its code does not tell its outputs: query is a guess"
        in call(capsys, "import", "rag.py:Hidden")[2]
    )
    assert found(capsys, "run", "Hidden", "question=x")["outputs"] == {"size": 1}
