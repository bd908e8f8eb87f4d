"""The command line, in this process: what it prints, and what it exits with."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.surfaces.cli import main

OWN_RESOURCE = Path(__file__).parents[3] / "examples" / "own_resource" / "tickets.py"
PROGRAM = '''
from typing import Literal
import dspex

class Sort(dspex.Signature):
    """Sort."""
    text: str
    kind: Literal["a", "b"] = dspex.Output()

sort = dspex.Predict(Sort)
number = 3

def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return city

agent = dspex.ReAct("text -> result", [lookup])

@dspex.program
def shout(text: str, times: int = 1) -> str:
    """Shout."""
    return text.upper() * times

@dspex.program
def fail(text: str) -> str:
    """Fail."""
    raise RuntimeError("broken on purpose")

@dspex.program
def picky(text: str) -> str:
    """Work for one row."""
    if text != "x":
        raise RuntimeError("broken on purpose")
    return "X"

def half(example, prediction):
    return 0.5
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A working folder with a program whose module name no other test uses."""
    monkeypatch.chdir(tmp_path)
    name = f"program_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    (tmp_path / "link.txt").write_text(name)
    (tmp_path / "data.csv").write_text("text,result\nx,X\ny,Y\nz,?\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def target(folder: Path) -> Any:
    """A function from a name in the program to a target."""
    module = (folder / "link.txt").read_text()
    return lambda name: f"{module}.py:{name}"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line; return its exit code, and what it printed on both streams."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


def test_a_wrong_declaration_has_the_line_of_its_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"wrong_{(folder / 'link.txt').read_text()}"
    (folder / f"{name}.py").write_text(
        'import dspex\n\nask = dspex.Predict("question -> answer: strr")\n'
    )
    code, _, err = call(capsys, "run", f"{name}.py:ask", "question=?")
    assert (code, "unknown type 'strr'" in err, f"({name}.py:3 in <module>)" in err) == (
        1,
        True,
        True,
    )


def test_eval_warns_of_rows_that_expect_what_no_answer_can_be(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.csv").write_text("text,kind\nx,a\ny,c\n")
    code, _, err = call(capsys, "eval", target("sort"), "labels.csv", "--backend", "mock")
    assert code == 0
    assert "warning: the program cannot answer what 1 of 2 rows expected; row 1: kind: " in err
    (folder / "labels.csv").write_text("text\nx\n")
    assert (
        "warning" not in call(capsys, "eval", target("sort"), "labels.csv", "--backend", "mock")[2]
    )


def test_an_unknown_command_says_which_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "runn")
    assert (code, "No such command 'runn'. Did you mean 'run'?" in err) == (2, True)


def test_an_exception_in_the_users_code_has_its_line_everywhere(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    module = (folder / "link.txt").read_text()
    line = PROGRAM.splitlines().index('    raise RuntimeError("broken on purpose")') + 1
    place = f"RuntimeError: broken on purpose ({module}.py:{line} in fail)"
    code, _, err = call(capsys, "run", target("fail"), "text=a")
    assert (code, f"the program failed: {place}" in err) == (1, True)
    data = json.loads(call(capsys, "run", target("fail"), "text=a", "--json")[1])
    assert data["error"]["message"] == f"the program failed: {place}"
    output = call(capsys, "execution", "show", data["id"])[1]
    assert "module fail at self" in output
    trace = json.loads(call(capsys, "execution", "show", data["id"], "--json")[1])["trace"]
    assert [span["error"] for span in trace["spans"]] == [place]
    _, _, err = call(capsys, "eval", target("fail"), "data.csv", "--limit", "1", "--html", "r.html")
    assert place in err
    page = (folder / "r.html").read_text()
    assert f"{module}.py:{line} in fail\n    raise RuntimeError" in page
    report = json.loads(call(capsys, "eval", target("fail"), "data.csv", "--json")[1])
    isolated = json.loads(
        call(capsys, "run", target("fail"), "text=a", "--backend", "isolated", "--json")[1]
    )
    assert isolated["error"]["message"] == place
    code_line = {
        "line": line,
        "function": "fail",
        "code": 'raise RuntimeError("broken on purpose")',
    }
    frames = [{"file": f"{module}.py", **code_line}]
    assert data["error"]["frames"] == isolated["error"]["frames"] == frames
    assert [row["frames"] for row in report["rows"]] == [frames] * 3
    assert [span["attributes"]["frames"] for span in trace["spans"]] == [frames]
    assert str(folder) not in json.dumps([data, isolated, trace])


def test_a_failure_shows_the_lines_of_the_users_code(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    module = (folder / "link.txt").read_text()
    line = PROGRAM.splitlines().index('    raise RuntimeError("broken on purpose")') + 1
    code_text = f'  {module}.py:{line} in fail\n    raise RuntimeError("broken on purpose")\n'
    for backend in ("native", "isolated"):
        _, _, err = call(capsys, "run", target("fail"), "text=a", "--backend", backend)
        assert f")\n{code_text}\n" in err
        shown = call(capsys, "execution", "last")[1]
        assert shown.count("raise RuntimeError") == 2  # the error, and one span of the trace
    _, _, err = call(capsys, "eval", target("fail"), "data.csv")
    assert f"row 0 failed at\n{code_text}" in err
    assert err.count(code_text) == 1


def test_eval_ends_with_the_three_worst_rows_and_the_report(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("eval", target("shout"), "data.csv", "--metric", target("half"))
    _, _, err = call(capsys, *arguments, "--html", "page.html")
    assert [line.partition(":")[0] for line in err.splitlines()[-6:]] == [
        "worst rows",
        *(f"  row {index}" for index in (0, 1, 2)),
        "report",
        "stored",
    ]
    assert "\nreport: page.html\n" in err
    _, _, err = call(capsys, *arguments)
    assert "\nreport: --html FILE writes one with every row\n" in err


def test_a_file_that_cannot_be_imported_shows_its_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"broken_{(folder / 'link.txt').read_text()}"
    (folder / f"{name}.py").write_text("def load():\n    return {}['key']\n\nload()\n")
    code, _, err = call(capsys, "run", f"{name}.py:triage", "text=a")
    assert (code, err.splitlines()[1:]) == (
        1,
        [
            f"  {name}.py:4 in <module>",
            "    load()",
            f"  {name}.py:2 in load",
            "    return {}['key']",
        ],
    )
    frames = json.loads(call(capsys, "run", f"{name}.py:triage", "--json")[1])["error"]["frames"]
    assert [frame["line"] for frame in frames] == [4, 2]


def test_eval_spends_nothing_where_its_report_could_not_be_written(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "eval", target("shout"), "data.csv", "--csv", "nowhere/rows.csv")
    assert code == 1
    assert "there is no such folder" in err
    assert not (folder / ".dspex").exists()


def test_jobs_are_shown_without_the_key_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSPEX_MODEL", "openai/gpt-4o-mini")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert call(capsys, "job", "list")[:2] == (0, "there are no jobs yet\n")
    key = "01a204e7-d265-770f-a3da-97f8004ff7a9"
    assert "no job has the id" in call(capsys, "job", "show", key)[2]


def test_commands_that_run_no_program_need_no_key_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSPEX_MODEL", "openai/gpt-4o-mini")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert call(capsys, "workspace", "create", "tenant")[0] == 0


def test_run_prints_the_outputs_and_stores_the_execution(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "run", target("shout"), "text=hi", "times=2")
    assert (code, out) == (0, "result: HIHI\n")
    assert "completed in" in err
    assert "created .dspex/" in err
    code, out, _ = call(capsys, "run", "shout", "text=again", "--json")
    data = json.loads(out)
    assert (code, data["outputs"]) == (0, {"result": "AGAIN"})
    _, out, _ = call(capsys, "execution", "list", "--json")
    assert [row["outputs"]["result"] for row in json.loads(out)["executions"]] == ["AGAIN", "HIHI"]
    _, out, _ = call(capsys, "execution", "show", data["id"])
    assert "AGAIN" in out
    _, out, _ = call(capsys, "program", "list", "--json")
    [row] = json.loads(out)["programs"]
    assert (row["name"], row["execution_count"]) == ("shout", 2)


class _Keyboard(io.StringIO):
    """Standard input on a terminal."""

    def isatty(self) -> bool:
        return True


def test_deleting_a_program_is_confirmed_on_a_terminal(
    target: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capsys, "push", target("shout"))[0] == 0
    monkeypatch.setattr(sys, "stdin", _Keyboard("n\n"))
    code, _, err = call(capsys, "program", "delete", "shout")
    assert (code, "delete program shout and all that belongs to it? [y/N]" in err) == (1, True)
    assert call(capsys, "program", "show", "shout")[0] == 0
    monkeypatch.setattr(sys, "stdin", _Keyboard("y\n"))
    assert call(capsys, "program", "delete", "shout")[0] == 0
    assert call(capsys, "program", "show", "shout")[0] == 1


@pytest.mark.parametrize("arguments", [(), ("--yes",)])
def test_deleting_a_program_is_not_confirmed_in_scripts(
    target: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    assert call(capsys, "push", target("shout"))[0] == 0
    monkeypatch.setattr(sys, "stdin", _Keyboard() if arguments else io.StringIO())
    assert call(capsys, "program", "delete", "shout", *arguments)[0] == 0


def test_run_reads_values_from_files(
    target: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.txt").write_text("from a file")
    assert call(capsys, "run", target("shout"), "text=@text.txt")[1] == "result: FROM A FILE\n"
    (folder / "inputs.json").write_text('{"text": "j", "times": 3}')
    assert call(capsys, "run", target("shout"), "--inputs", "inputs.json")[1] == "result: JJJ\n"
    code, _, err = call(capsys, "run", target("shout"), "text=@nowhere.txt")
    assert code == 1
    assert "cannot read 'nowhere.txt'" in err


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("shout", ["txt=hi"], "Did you mean 'text'?"),
        ("shout", ["text=hi", "times=x"], "times"),
        ("shout", ["hi"], "expected field=value"),
        ("shuot", ["text=hi"], "Did you mean 'shout'?"),
        ("number", ["text=hi"], "a target is"),
        ("fail", ["text=hi"], "broken on purpose"),
    ],
)
def test_a_wrong_call_is_one_clear_message_and_no_traceback(
    target: Any, name: str, values: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "run", target(name), *values)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_errors_are_json_where_json_was_asked_for(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "run", target("shout"), "txt=hi", "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "invalid")
    assert {field["path"] for field in error["fields"]} == {"text", "txt"}


def test_an_unknown_target_says_how_targets_look(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "file.py:name" in call(capsys, "run", "nothing", "text=hi")[2]
    assert (
        "the file 'nowhere.py' does not exist" in call(capsys, "run", "nowhere.py:x", "text=hi")[2]
    )
    name = (folder / "link.txt").read_text()
    assert (
        "(it has: Sort, shout, fail, picky, sort, number, agent)"
        in call(capsys, "run", f"{name}.py", "text=hi")[2]
    )


def test_a_file_outside_the_code_root_is_refused(
    target: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert (
        "lies outside the code root" in call(capsys, "run", f"../{target('shout')}", "text=hi")[2]
    )


def test_prompt_shows_what_would_be_sent_and_stores_nothing(
    target: Any,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, _ = call(capsys, "prompt", target("sort"), "text=hello")
    assert code == 0
    assert "[[ ## text ## ]]\nhello" in out
    request = json.loads(
        call(capsys, "prompt", target("sort"), "text=hello", "--adapter", "json", "--json")[1]
    )
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert not (folder / ".dspex").exists()
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    agent = target("agent"), "text=hello", "--model", "openai/gpt-4o-mini"
    out = call(capsys, "prompt", *agent)[1]
    assert '--- tool lookup ---\nLook up the weather of a city.\n{\n  "type": "object"' in out
    assert "--- tool finish ---" in out
    assert (
        "answered without calling a model"
        in call(capsys, "prompt", target("shout"), "text=hello")[2]
    )


def test_schema_prints_both_apis_with_the_resources_of_the_domain_and_creates_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    shutil.copy(OWN_RESOURCE, folder)
    types, paths = {"type Program implements Node"}, {"/v1/programs", "/v1/actions/create_program"}
    for own_types, own_paths in (
        (set(), set()),
        ({"type Ticket implements Node"}, {"/v1/tickets", "/v1/actions/open_ticket"}),
    ):
        code, schema, _ = call(capsys, "schema", "graphql")
        assert code == 0
        assert {line.removesuffix(" {") for line in schema.splitlines()} >= types | own_types
        assert ("type Ticket" in schema) == bool(own_types)
        code, description, _ = call(capsys, "schema", "openapi")
        assert code == 0
        assert json.loads(description)["paths"].keys() >= paths | own_paths
        assert ("/v1/tickets" in description) == bool(own_paths)
        (folder / "dspex.toml").write_text('domain = "tickets:DOMAIN"\n')
    assert not (folder / ".dspex").exists()
    sys.modules.pop("tickets")
    (folder / "dspex.toml").write_text('domain = "tickets:TICKET"\n')
    code, _, message = call(capsys, "schema", "openapi")
    assert (code, "the domain 'tickets:TICKET' must be the result of" in message) == (1, True)
    sys.modules.pop("tickets")


def test_without_a_model_run_says_how_to_set_one(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "run", target("sort"), "text=hello")
    assert code == 1
    assert "--model" in err


def test_eval_shows_the_mean_with_its_interval_and_stores_each_call(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "eval", target("shout"), "data.csv")
    assert code == 0
    assert "0.667" in out
    report = json.loads(call(capsys, "eval", "shout", "data.csv", "--limit", "2", "--json")[1])
    assert report["metrics"]["exact_match"]["mean"] == 1.0
    assert len(json.loads(call(capsys, "execution", "list", "--json")[1])["executions"]) == 5


def test_eval_has_a_gate_filters_and_metrics_of_ones_own(
    target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "eval", target("shout"), "data.csv", "--min", "0.6")[0] == 0
    code, _, err = call(capsys, "eval", target("shout"), "data.csv", "--min", "0.9")
    assert code == 1
    assert "below the minimum" in err
    assert "1.000" in call(capsys, "eval", target("shout"), "data.csv", "--where", "text=x")[1]
    assert (
        "0.500" in call(capsys, "eval", target("shout"), "data.csv", "--metric", target("half"))[1]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--min", "0.99"], 1, "2 of 3 rows failed, and 0 may; --max-failed says how many may"),
        (["--min", "0.99", "--max-failed", "1"], 1, "2 of 3 rows failed, and 1 may"),
        (["--min", "0.99", "--max-failed", "2"], 0, ""),
        (["--max-failed", "1"], 1, "2 of 3 rows failed"),
        (["--min", "nan", "--max-failed", "2"], 1, "below the minimum of nan"),
        ([], 0, ""),
        (["--where", "text=y"], 1, "none of 1 row could be scored"),
    ],
)
def test_rows_that_failed_count_against_the_gate(
    target: Any, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out, err = call(capsys, "eval", target("picky"), "data.csv", *arguments)
    assert (result, "failed" in out) == (code, True)
    assert message in err
    assert message or " may" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["data.csv", "--metric", "exact_mach"], "unknown metric"),
        (["data.csv", "--where", "text"], "COLUMN=VALUE"),
    ],
)
def test_a_wrong_eval_is_one_clear_message(
    target: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "eval", target("shout"), *arguments)
    assert code == 1
    assert message in err


def test_init_makes_a_project_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "init", "mine")
    assert code == 0
    assert "dspex run program.py:triage" in out
    assert len((folder / "mine" / "program.py").read_text().splitlines()) <= 15
    code, _, err = call(capsys, "init", "mine")
    assert code == 1
    assert "not empty" in err


def test_doctor_says_what_is_there_and_what_is_broken(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capsys, "doctor")
    assert code == 0
    assert "dspex[server]" in out
    assert "dspex[embed]" in out
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    _, out, _ = call(capsys, "doctor", "--json")
    assert "OPENAI_API_KEY" in out
    assert "sk-secret-value" not in out
    (folder / "dspex.toml").write_text('modl = "x"\nport = "many"\n')
    code, out, _ = call(capsys, "doctor")
    assert code == 1
    assert "Did you mean 'model'?" in out
    assert "port" in out


def test_a_server_beyond_loopback_without_a_key_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del folder
    code, _, err = call(capsys, "serve", "--host", "0.0.0.0")  # noqa: S104  # it is refused
    assert code == 1
    assert "dspex key create NAME admin" in err


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "run")[0] == 2
    assert call(capsys, "rnu")[0] == 2
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "TARGET" in out


def test_optimize_says_how_to_name_held_out_rows(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, text = call(capsys, "optimize", target("sort"), "data.csv", "--test", "text=x")
    assert code == 1
    assert "name the training rows by --where split=train" in text


@pytest.mark.bridge
def test_optimize_refuses_rows_that_suit_no_predictor(
    folder: Path, target: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, text = call(
        capsys, "optimize", target("sort"), "data.csv", "--model", "http://127.0.0.1:9/v1#none"
    )
    assert code == 1
    assert "takes rows of text, result as demonstrations" in text
