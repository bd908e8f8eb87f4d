"""Reports and notebooks in a real Chromium: themes, phone, paper, filters, accessibility."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dspex.language.records import Example
from dspex.learning.evaluation.breakdown import breakdown
from dspex.learning.evaluation.export import to_html
from dspex.learning.optimizers.export import to_html as outcome_to_html
from tests.support.browser import axe_source, chromium, without_chromium
from tests.support.report_samples import notebook_values, sample_outcome, sample_report

pytestmark = [pytest.mark.slow, without_chromium]
WIDTHS = {"wide": 1280, "phone": 390}
NOTEBOOKS = {
    "program": ("signature", "module", "prediction", "trace"),
    "evaluation": ("dataset", "report", "comparison"),
    "optimization": ("verdict", "outcome", "front"),
}
PAGES = ("eval", "optimize", "failed", *(f"notebook-{name}" for name in NOTEBOOKS))
PROMPTS = {"self": "--- system ---\nSort the message.\n\n--- user ---\n{message}"}
JUDGE = {
    "judge_variance": {
        "right": {
            "repeats": 3,
            "answers": 60,
            "within": 0.1,
            "between": 0.3,
            "reliability": None,
            "flips": 0.05,
            "interval": [0.02, 0.14],
        }
    }
}
TOUR = """
import warnings; warnings.simplefilter("ignore")
from dspex.evaluation import ProgressDisplay
from tests.support.report_samples import *
with dspex.context(model=SimulatedModel(seed=1)), ProgressDisplay(20) as progress:
    report = dspex.evaluate(
        dspex.Predict("question -> answer"), questions(20), dspex.exact_match, on_row=progress
    )
report
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    pytest.importorskip("optuna")
    folder = tmp_path_factory.mktemp("pages")
    report = sample_report()
    rows = [
        msgspec.structs.replace(
            row, example=Example(row.example.to_dict() | {"rated": row.index % 3 != 0})
        )
        for row in report.rows
    ]
    report = replace(report, rows=tuple(rows))
    parts = breakdown(report, slice_by="intent", pass_at=0.8, label="rated")
    page = to_html(report, "triage.py:triage", prompts=PROMPTS, parts={**parts, **JUDGE})
    (folder / "eval.html").write_text(page)
    failed = tuple(row for row in report.rows if row.error is not None)
    (folder / "failed.html").write_text(to_html(replace(report, rows=failed), "triage.py:triage"))
    (folder / "optimize.html").write_text(outcome_to_html(sample_outcome(), "answers.py:answer"))
    values = notebook_values()
    for theme, is_light in (("light", "true"), ("dark", "false")):
        colours = "color:#111;background:#fff" if theme == "light" else "color:#eee;background:#111"
        for notebook, names in NOTEBOOKS.items():
            cells = "".join(f"<h2>{name}</h2>{values[name]._repr_html_()}" for name in names)
            (folder / f"notebook-{notebook}-{theme}.html").write_text(
                f"<!doctype html><html lang=en><meta charset=utf-8><title>{notebook}</title>"
                f"<body data-jp-theme-light={is_light} style='{colours};margin:24px'>"
                f"<main><h1>{notebook}</h1>{cells}</main></body></html>"
            )
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def _open(browser, pages, name, *, width=1280, is_dark=False):
    """Open a page in a theme: the browser's, or that of a notebook around it."""
    theme = f"-{'dark' if is_dark else 'light'}" if name.startswith("notebook") else ""
    browser.open(f"file://{pages / name}{theme}.html", width=width, is_dark=is_dark)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violations(pages, browser, name):
    axe = axe_source(pages)
    for size, is_dark in (("wide", False), ("phone", True)):
        _open(browser, pages, name, width=WIDTHS[size], is_dark=is_dark)
        assert browser.violations(axe) == []


def test_the_policy_of_a_page_allows_its_own_script_and_the_filters_work(pages, browser):
    _open(browser, pages, "eval")
    texts = browser.run(
        """
        const state = () => document.querySelector("output").textContent;
        const states = [state()];
        document.querySelector("input[value=failed]").click(); states.push(state());
        document.querySelector("input[value='']").click();
        document.querySelector(".matrix .wrong").click(); states.push(state());
        states.push(document.querySelector(".filters button").textContent);
        document.querySelector(".filters button").click(); states.push(state());
        const select = document.querySelector("select"); select.value = "number";
        select.dispatchEvent(new Event("change"));
        states.push(document.querySelector(".rows > li").id);
        return states;
        """
    )
    assert browser.problems == []
    assert texts[:2] == ["60 of 60 rows", "3 of 60 rows"]
    assert re.fullmatch(r"[1-9] of 60 rows", texts[2])
    assert "intent: expected " in texts[3]
    assert texts[4:] == ["60 of 60 rows", "row-0"]
    _open(browser, pages, "optimize")
    order = browser.run(
        """
        const heads = [...document.querySelectorAll(".sortable thead button")];
        heads[2].click(); heads[2].click();
        const cells = [...document.querySelectorAll(".sortable tbody tr")];
        return cells.map((row) => Number(row.cells[2].dataset.value));
        """
    )
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("name", ["eval", "optimize", "failed"])
def test_nothing_is_wider_than_a_phone(pages, browser, name):
    _open(browser, pages, name, width=WIDTHS["phone"])
    scroll, width = browser.run("return [document.documentElement.scrollWidth, innerWidth];")
    assert scroll <= width


@pytest.mark.parametrize("name", PAGES)
def test_the_last_column_of_every_table_can_be_read_on_a_phone(pages, browser, name):
    """A table fits, or scrolls inside its own frame; common tables fit."""
    _open(browser, pages, name, width=WIDTHS["phone"])
    tables = browser.run(
        """
        return [...document.querySelectorAll("table")].map((table) => {
          const frame = table.closest(".scroll"), name = table.textContent.slice(0, 40);
          if (!frame) return [name, table.getBoundingClientRect().right <= innerWidth, true];
          const fits = frame.scrollWidth <= frame.clientWidth;
          frame.scrollLeft = frame.scrollWidth;
          const cell = table.rows[0].cells[table.rows[0].cells.length - 1];
          const end = cell.getBoundingClientRect().right;
          return [name, end <= frame.getBoundingClientRect().right + 1, fits];
        });
        """
    )
    assert [text for text, is_read, _ in tables if not is_read] == []
    common = ("metric", "value")
    assert [text for text, _, fits in tables if text.startswith(common) and not fits] == []


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_drawn_in_both_themes_on_phones_and_on_paper(pages, browser, name):
    """Set DSPEX_TEST_SCREENSHOTS to a folder to keep the pictures."""
    target = Path(os.environ.get("DSPEX_TEST_SCREENSHOTS", pages))
    pictures = set()
    for size, width in WIDTHS.items():
        for theme in ("light", "dark"):
            _open(browser, pages, name, width=width, is_dark=theme == "dark")
            picture = browser.picture(height=4000)
            assert picture.startswith(b"\x89PNG")
            (target / f"{name}-{size}-{theme}.png").write_bytes(picture)
            pictures.add(picture)
    assert len(pictures) == 4
    paper = browser.paper()
    assert paper.startswith(b"%PDF")
    (target / f"{name}.pdf").write_bytes(paper)


def test_a_saved_notebook_keeps_its_progress_and_its_report(tmp_path):
    for name in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    code = (
        "import nbformat, sys; from nbclient import NotebookClient\n"
        "nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])\n"
        "NotebookClient(nb, timeout=120, kernel_name='python3').execute()\n"
        "print(nbformat.writes(nb))"
    )
    root = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", code, TOUR],
        capture_output=True, text=True, cwd=root, timeout=200, check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    progress, report = json.loads(process.stdout)["cells"][0]["outputs"]
    assert re.match(r"20 of 20 rows, mean 0\.\d+, \d+ s$", "".join(progress["data"]["text/plain"]))
    assert "20 of 20 rows" in "".join(progress["data"]["text/html"])
    assert "in exact_match over 20 rows" in "".join(report["data"]["text/html"])
