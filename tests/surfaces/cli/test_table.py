"""Tables: what is shown at 60, 100 and 160 columns, and without a terminal."""

from datetime import UTC, datetime
from uuid import UUID

import click
import pytest

from dspex.surfaces.cli.table import table
from dspex.surfaces.cli.text_width import wrap_prose

COMMAND = "  dspex optimize program.py:triage data.csv --store"
COLUMNS = ("name", "status", "inputs", "outputs", "duration_ms", "created_at", "id")
ROW = {
    "name": "triage",
    "status": "failed",
    "inputs": {"message": "where is my card? " * 5},
    "outputs": {"team": "cards", "reason": "the customer asks for a card\nthat is lost"},
    "duration_ms": 12.345,
    "created_at": datetime(2026, 1, 31, 12, 0, tzinfo=UTC),
    "id": UUID("01a2203e-f070-7194-a360-759b4f199ac1"),
}


@pytest.mark.parametrize("width", [40, 60, 100, 160, 200])
def test_every_line_fits_and_the_name_and_the_id_stay(width: int) -> None:
    lines = click.unstyle(table([ROW, ROW], COLUMNS, width=width)).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("triage")
    assert lines[1].endswith("4f199ac1")


def test_without_a_terminal_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    head, line, _ = click.unstyle(table([ROW, ROW], COLUMNS)).splitlines()
    assert head.split() == [*COLUMNS]
    assert "where is my card? " * 5 in line
    assert "team: cards, reason: the customer asks for a card that is lost" in line
    assert "12.3" in line


def test_labels_keep_their_ends_and_numbers_their_digits() -> None:
    rows = [{"label": f"labelled demonstrations, set {n}", "mean": n / 3} for n in (1, 2)]
    assert table(rows, ("label", "mean"), width=24).splitlines()[1:] == [
        "labelled …, set 1  0.333",
        "labelled …, set 2  0.667",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        (
            "there is no session 'x'; `dspex session list` shows the sessions",
            ["there is no session 'x';", "`dspex session list` shows the", "sessions"],
        ),
        (
            "  row 1: team 'lost card', expected 'card'",
            ["  row 1: team 'lost card',", "    expected 'card'"],
        ),
        (COMMAND, [COMMAND]),
        ("日本語 " * 8, ["日本語 日本語 日本語 日本語", "日本語 日本語 日本語 日本語"]),
    ],
)
def test_prose_breaks_between_words_and_commands_stay_whole(
    text: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "32")
    assert wrap_prose(text).splitlines() == lines
    monkeypatch.delenv("COLUMNS")
    assert wrap_prose(text) == text


def test_one_row_that_does_not_fit_has_an_attribute_a_line() -> None:
    lines = table([ROW], COLUMNS, width=60).splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [*COLUMNS]
    assert "where is my card? " * 5 in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 60
    [*_, last] = table([{"name": "long " * 100, "id": None}], ("name",), width=60).splitlines()
    assert last.endswith("…")


def test_a_status_has_a_colour_and_the_text_of_a_message_has_none() -> None:
    assert click.style("failed", fg="red") in table([ROW, ROW], ("name", "status", "id"))
    assert "\x1b[31m" not in table([{"name": "failed"}, {"name": "ok"}], ("name",))
