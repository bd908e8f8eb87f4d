"""Lists of every noun with long, wide and hostile values: every line fits the terminal."""

import json
from pathlib import Path

import click
import pytest
from wcwidth import wcswidth

from dspex.surfaces.cli import main
from dspex.surfaces.cli.nouns import all_nouns

LONG = "a-long-name-" * 5
WIDE = "日本語の長い文字列 \x1b[2J\u202e é 👩\u200d👧 " * 8
VARIABLE = "A" * 70
FILE = """
import dspex
Signature = dspex.Signature("question_in_many_words_of_the_customer -> answer, notes: list[str]")
program = dspex.Predict(Signature)
"""
COMMANDS = (
    f"push p.py:program --name {LONG}",
    "push p.py:program --name other",
    "run other @ --backend mock",
    f"run {LONG} @ --backend mock",
    "run other @ --backend mock",
    f"dataset add {LONG} d.csv",
    "dataset add other d.csv",
    f"key create {LONG} execute",
    f"key create {LONG}2 execute,read",
    "session create",
    "session create --ttl 100000",
    f"collection create {LONG} --embedder offline",
    "collection create other --embedder offline",
    f"secret create {LONG} --reference env:{VARIABLE}",
    f"workspace create {LONG[:30]}",
    f"evaluation create {LONG} --dataset other --metrics exact_match",
    f"evaluation create other --dataset {LONG} --metrics exact_match",
    "optimization create other --dataset other --metrics exact_match",
)


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as result:
        main([*words])
    output = capsys.readouterr()
    return int(result.value.code or 0), output.out + output.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


@pytest.fixture
def stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, "a secret")
    if not (folder / "p.py").exists():
        (folder / "p.py").write_text(FILE)
        (folder / "in.json").write_text(
            json.dumps({"question_in_many_words_of_the_customer": WIDE})
        )
        (folder / "d.csv").write_text(
            f'question_in_many_words_of_the_customer,answer\n"{LONG}",b\n'
        )
        for command in COMMANDS:
            words = command.replace("@", "--inputs in.json").split()
            code, output = call(capsys, *words)
            assert code == 0, f"{command}: {output}"


@pytest.mark.parametrize("width", [60, 100, 160, 200])
def test_every_list_fits(
    width: int,
    stored: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lists = [f"{noun} list" for noun in (*all_nouns(), "job", "worker")]
    singles = [f"{text} --limit 1" for text in lists if text != "worker list"]
    sorts = ["execution list --limit 1 --sort -created_at", f"program versions {LONG}", "inbox"]
    for command in (*lists, *singles, *sorts, "do"):
        code, output = call(capsys, *command.split())
        assert code == 0, output
        text = click.unstyle(output)
        assert "\x1b" not in text
        for line in text.splitlines():
            assert 0 <= wcswidth(line) <= width, f"{command}: {wcswidth(line)}: {line}"


def test_without_a_terminal_a_list_has_whole_values(
    stored: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output = call(capsys, "execution", "list")[1]
    assert " ".join(["日本語の長い文字列 \ufffd[2J\ufffd é 👩\u200d👧"] * 8) in output
    assert len(output.splitlines()) == 4
    assert LONG in call(capsys, "program", "list")[1]


@pytest.mark.parametrize("sort", [(), ("--sort", "-created_at"), ("--sort", "status")])
def test_pages_continue_after_the_id_of_a_row(
    sort: tuple[str, ...], stored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("execution", "list", *sort, "--json")
    ids = [row["id"] for row in json.loads(call(capsys, *words)[1])["executions"]]
    hint = call(capsys, "execution", "list", *sort, "--limit", "1")[1].splitlines()[-1]
    assert hint == f"more: --after {ids[0]}"
    first = json.loads(call(capsys, *words, "--limit", "1")[1])
    for after in (ids[0], ids[0][-8:], first["next"]):
        rest = json.loads(call(capsys, *words, "--after", after)[1])
        assert [row["id"] for row in rest["executions"]] == ids[1:]


def test_an_unknown_row_and_a_page_after_nothing_are_errors(
    stored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = call(capsys, "session", "show", "x")
    assert (code, output) == (
        1,
        "error: there is no session 'x'; `dspex session list` shows the sessions\n",
    )
    code, output = call(capsys, "execution", "list", "--after", "x")
    assert code == 1
    assert "after" in output
