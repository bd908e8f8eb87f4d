"""Questions to people on the command line: the inbox, answers, and prompts at a terminal."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from dspex.language.signatures import Signature
from dspex.surfaces.cli import main
from dspex.surfaces.cli import terminal_answer as terminal

CODE = """
import dspex


@dspex.program
async def refund(order: str) -> str:
    \"\"\"Refund an order.\"\"\"
    answer = await dspex.ask("order -> approved: bool, reason: str = ''", order=order)
    return f"{answer.approved} {answer.reason}"


class Chat(dspex.Module):
    signature = "question, history: History -> answer"

    def forward(self, question, history):
        return {"answer": f"turn {len(history.messages) // 2}"}


chat = Chat()
"""
SHAPE = Signature(
    "q -> team: Literal['cards', 'payments'], days: int[ge=1] \"until then\", urgent: bool = false"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "people.py").write_text(CODE)
    sys.modules.pop("people", None)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    output = capsys.readouterr()
    return int(end.value.code or 0), output.out, output.err


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let these lines be typed at the terminal; returns the prompts."""

    def lines(*texts: str) -> list[str]:
        prompts: list[str] = []
        remaining = list(texts)

        def prompt(label: str, **_options: object) -> str:
            prompts.append(label)
            return remaining.pop(0)

        monkeypatch.setattr(click, "prompt", prompt)
        return prompts

    return lines


def test_a_terminal_shows_what_an_answer_needs(typed: Callable[..., list[str]]) -> None:
    prompts = typed("cards", "3", "")
    answer = terminal.ask_at_terminal(signature=SHAPE, inputs={"q": "?"})
    assert answer == {"team": "cards", "days": 3, "urgent": False}
    assert prompts == [
        "team: Literal['cards', 'payments']",
        'days: int[ge=1] "until then"',
        "urgent: bool = false",
    ]


def test_a_terminal_asks_again_for_what_does_not_fit_and_nothing_else(
    typed: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = typed("cards", "0", "perhaps", "2", "yes")
    answer = terminal.ask_at_terminal(signature=SHAPE, inputs={"q": "?"})
    assert answer == {"team": "cards", "days": 2, "urgent": True}
    assert [prompt.partition(":")[0] for prompt in prompts] == [
        "team",
        "days",
        "urgent",
        "days",
        "urgent",
    ]
    assert "days: must be at least 1" in capsys.readouterr().err


def test_an_answer_at_a_terminal_is_a_text_and_never_a_file(
    typed: Callable[..., list[str]], folder: Path
) -> None:
    (folder / "secret").write_text("hidden")
    typed("@secret", "-")
    answer = terminal.ask_at_terminal(signature=Signature("q -> a, b"), inputs={"q": "?"})
    assert answer == {"a": "@secret", "b": "-"}


def test_a_session_keeps_the_turns_of_several_commands(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = call(capsys, "session", "create", "--ttl", "3600", "--json")
    session = json.loads(output)["id"]
    assert code == 0
    for number, reference in enumerate((session, session[-8:])):
        options = ("--session", reference, "--json")
        code, output, errors = call(capsys, "run", "people.py:chat", "question=?", *options)
        assert code == 0, errors
        assert json.loads(output)["outputs"] == {"answer": f"turn {number}"}
    assert json.loads(call(capsys, "session", "show", session, "--json")[1])["turn_count"] == 2
    code, _, errors = call(capsys, "run", "people.py:chat", "question=?", "--session", "nobody")
    assert code == 1
    assert "there is no session 'nobody'" in errors


@pytest.mark.full
def test_the_inbox_names_the_program_and_the_fields_of_an_answer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "run", "people.py:refund", "order=A-17")[0] == 0
    heads, row = call(capsys, "inbox")[1].splitlines()
    assert heads.split() == [
        *("program", "kind", "inputs", "answer"),
        *("created_at", "expires_at", "execution_id", "id"),
    ]
    assert row.startswith("refund   question  A-17 ")
    assert "approved: bool, reason: str = ''" in row
    (question,) = json.loads(call(capsys, "inbox", "--json")[1])["questions"]
    assert question["id"].endswith(row.split()[-1])


@pytest.mark.full
def test_errors_of_an_answer_name_the_question_and_the_fields(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "run", "people.py:refund", "order=A-17")
    key = call(capsys, "inbox")[1].split()[-1]
    code, _, error = call(capsys, "execution", "answer", key, "aproved=true")
    assert (code, error.startswith("error: the answer does not fit:")) == (1, True)
    assert "aproved: unknown field. Did you mean 'approved'?" in error
    error = call(capsys, "execution", "answer", "99999999", "approved=true")[2]
    assert "no question and no execution '99999999'; `dspex inbox` lists" in error
