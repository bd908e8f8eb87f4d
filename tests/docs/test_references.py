"""All pages: the links, modules, files, commands and settings that they name exist."""

import importlib
import re
from pathlib import Path

import pytest

from dspex.settings import OTHER_VARIABLES, config_schema
from dspex.surfaces.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FILES = {"toml", "sqlite3", "schema"}  # dspex.toml and others
FENCE = re.compile(r"```.*?```", re.DOTALL)


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_names_can_be_imported(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for dotted in set(re.findall(r"(?<![\w/.])dspex(?:\.[A-Za-z_]\w*)+", text)):
        if dotted.split(".")[1] not in FILES:
            assert exists(dotted), dotted


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    value, path = importlib.import_module("dspex"), "dspex"
    for part in dotted.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = importlib.import_module(path)
            except ModuleNotFoundError:
                return False
    return True


def test_the_status_page_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    paths = re.findall(r"(?:tests|benchmarks|examples)/[\w/.\-]+", text)
    assert len(paths) > 100
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_variables_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"`dspex ([a-z]+)[^`]*`", text)
    for fence in re.findall(r"```(?:ba)?sh\n(.*?)```", text, re.DOTALL):
        commands += re.findall(r"^(?:DSPEX_\S+ )*dspex ([a-z]+)", fence, re.MULTILINE)
    with cli.make_context("dspex", ["doctor"]) as context:
        # examples/own_resource
        assert set(commands) - {"ticket"} <= set(cli.list_commands(context))
    settings = {f"DSPEX_{name.upper()}" for name in config_schema()["properties"]}
    variables = set(re.findall(r"DSPEX_[A-Z_]+[A-Z]", text)) - {"DSPEX_NAME"}
    assert variables <= settings | OTHER_VARIABLES
