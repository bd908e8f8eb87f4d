"""The tour of the server: every command runs against a started server, and prints what the page says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import Child

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
STEP = re.compile(r"```sh\n(?P<code>.*?)```\n(?:\n```output\n(?P<output>.*?)```)?", re.DOTALL)
CHANGING = (
    (re.compile(r"dspx_[0-9a-f]{32}_[\w-]{43}"), "KEY"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
    (re.compile(r"-{5,}"), "-----"),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r"TIME  "), ""),  # of a last use, which is written every half a minute
)


def steady(text: str) -> str:
    """`text` without what is another one each time."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text.strip()


def printed(folder: Path) -> Iterator[tuple["re.Match[str]", str]]:
    """Run the page in `folder`, giving each step and what it printed."""
    text = PAGE.read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert program is not None
    (folder / "app.py").write_text(program[1])
    (folder / "dspex").write_text(f'#!/bin/sh\nexec {sys.executable} -m dspex "$@"\n')
    (folder / "dspex").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "KEY": ""}
    server: Child | None = None
    url = ""
    try:
        for step in STEP.finditer(text):
            if step["code"].startswith("dspex serve"):
                words = step["code"].split()
                server = Child([sys.executable, "-m", *words, "--port", "0"], cwd=folder, env=environment)
                url = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))[0]  # type: ignore[index]
                continue
            done = subprocess.run(
                ["/bin/sh", "-ec", step["code"].replace("http://127.0.0.1:8123", url or "http://127.0.0.1:8123")],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            if not environment["KEY"]:
                environment["KEY"] = CHANGING[0][0].search(done.stdout)[0]  # type: ignore[index]
            yield step, re.sub(r"(?<=[}\]])(?=\{)", "\n", done.stdout)
    finally:
        if server is not None:
            server.__exit__()


@pytest.mark.full
def test_every_step_prints_what_the_page_says(tmp_path: Path) -> None:
    """After a deliberate change: python -m tests.docs.test_server_page, in a shell without settings of dspex."""
    for step, found in printed(tmp_path):
        assert steady(found) == steady(step["output"] or ""), step["code"]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        steps = list(printed(Path(made)))
    page = PAGE.read_text(encoding="utf-8")
    for step, found in reversed(steps):
        if step["output"] is not None:
            page = page[: step.start("output")] + found.rstrip() + "\n" + page[step.end("output") :]
    PAGE.write_text(page, encoding="utf-8")
