"""Reports and notebooks in a real Chromium: themes, phone, paper, filters, accessibility."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.learning.evaluation.export import to_html
from dspex.learning.optimizers.export import to_html as outcome_to_html
from tests.support.report_samples import notebook_values, sample_outcome, sample_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine"),
]
AXE = "4.10.3"
SIZES = {"wide": "1280,2000", "phone": "390,2000"}
DARK = "--blink-settings=preferredColorScheme=0"
PROMPTS = {"self": "--- system ---\nSort the message.\n\n--- user ---\n{message}"}
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
    report = to_html(sample_report(), "triage.py:triage on messages", prompts=PROMPTS)
    (folder / "eval.html").write_text(report)
    outcome = outcome_to_html(sample_outcome(), "answers.py:answer on questions")
    (folder / "optimize.html").write_text(outcome)
    shows = "".join(
        f"<h2>{name}</h2>{value._repr_html_()}" for name, value in notebook_values().items()
    )
    for theme, is_light in (("light", "true"), ("dark", "false")):
        colours = "color:#111;background:#fff" if theme == "light" else "color:#eee;background:#111"
        (folder / f"notebook-{theme}.html").write_text(
            f"<!doctype html><html lang=en><meta charset=utf-8><title>Notebook</title>"
            f"<body data-jp-theme-light={is_light} style='{colours}'>"
            f"<main><h1>Notebook</h1>{shows}</main></body></html>"
        )
    return folder


def _chromium(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)


def _run(page: Path, script: str, *options: str) -> Any:
    """Return the JSON that `script` (the body of an async function) gives in the page."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    runner = (
        "<script>addEventListener('load', async () => {"
        "const pre = document.createElement('pre'); pre.id = 'result';"
        f"const run = async () => {{ {script} }};"
        "pre.textContent = JSON.stringify(await run().catch((e) => String(e)));"
        "document.body.append(pre); });</script>"
    )
    copy = page.with_name(f"run-{page.name}")
    copy.write_text(text.replace("</body>", f"{runner}</body>"))
    budget = "--virtual-time-budget=20000"
    dump = _chromium(page.parent, *options, budget, "--dump-dom", f"file://{copy}").stdout
    match = re.search(r'<pre id="result">(.*?)</pre>', dump, re.DOTALL)
    assert match, dump[-500:]
    return json.loads(html.unescape(match[1]))


@pytest.mark.parametrize("name", ["eval", "optimize", "notebook-light", "notebook-dark"])
def test_axe_finds_no_violations(pages, name):
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    if not (source := pages / "node_modules/axe-core/axe.min.js").exists():
        install = [npm, "install", "--no-audit", "--no-fund", "--silent", f"axe-core@{AXE}"]
        subprocess.run(install, cwd=pages, check=True, capture_output=True, timeout=200)
    script = (
        source.read_text().replace("</script", "<\\/script")
        + ";for (const fold of document.querySelectorAll('details')) fold.open = true;"
        "const result = await axe.run(document);"
        "return result.violations.map((v) => [v.id, v.nodes.length, v.nodes[0].html, "
        "v.nodes[0].failureSummary]);"
    )
    for options in (["--window-size=1280,2000"], ["--window-size=390,2000", DARK]):
        assert _run(pages / f"{name}.html", script, *options) == []


def test_the_policy_of_a_page_allows_its_own_script_and_the_filters_work(pages):
    page = pages / "eval.html"
    log = ("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom")
    result = _chromium(pages, *log, f"file://{page}")
    assert "Refused to" not in result.stderr
    assert "violates the following" not in result.stderr
    assert re.search(r'<output class="count">60 of 60 rows</output>', result.stdout)
    texts = _run(
        page,
        """
        const state = () => document.querySelector("output").textContent;
        const states = [];
        document.querySelector("input[value=failed]").click(); states.push(state());
        document.querySelector("input[value='']").click();
        document.querySelector(".matrix .wrong").click(); states.push(state());
        states.push(document.querySelector(".filters button").textContent);
        document.querySelector(".filters button").click(); states.push(state());
        const select = document.querySelector("select"); select.value = "number";
        select.dispatchEvent(new Event("change"));
        states.push(document.querySelector(".rows > li").id);
        return states;
        """,
    )
    assert texts[0] == "3 of 60 rows"
    assert re.fullmatch(r"[1-9] of 60 rows", texts[1])
    assert "intent: expected " in texts[2]
    assert texts[3:] == ["60 of 60 rows", "row-0"]
    order = _run(
        pages / "optimize.html",
        """
        const heads = [...document.querySelectorAll(".sortable thead button")];
        heads[2].click(); heads[2].click();
        const cells = [...document.querySelectorAll(".sortable tbody tr")];
        return cells.map((row) => Number(row.cells[2].dataset.value));
        """,
    )
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("name", ["eval", "optimize"])
def test_nothing_is_wider_than_a_phone(pages, name):
    widths = "return [document.documentElement.scrollWidth, innerWidth];"
    scroll, width = _run(pages / f"{name}.html", widths, "--window-size=390,2000")
    assert scroll <= width


@pytest.mark.parametrize("name", ["eval", "optimize", "notebook-light", "notebook-dark"])
def test_pages_are_drawn_in_both_themes_on_phones_and_on_paper(pages, name):
    """Set DSPEX_TEST_SCREENSHOTS to a folder to keep the pictures."""
    target = Path(os.environ.get("DSPEX_TEST_SCREENSHOTS", pages))
    url, pictures = f"file://{pages / name}.html", set()
    for size, pixels in SIZES.items():
        for theme, options in (("light", []), ("dark", [DARK])):
            file = target / f"{name}-{size}-{theme}.png"
            _chromium(pages, *options, f"--window-size={pixels}", f"--screenshot={file}", url)
            pictures.add(file.read_bytes())
            assert file.read_bytes()[:4] == b"\x89PNG"
    assert len(pictures) == (2 if name.startswith("notebook") else 4)
    paper = target / f"{name}.pdf"
    _chromium(pages, "--no-pdf-header-footer", f"--print-to-pdf={paper}", url)
    assert paper.read_bytes()[:4] == b"%PDF"


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
