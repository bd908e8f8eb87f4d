"""A page as a tour.

Its files are written, its commands run in order, and what they print is what the page says.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.command_server import dspex_program
from tests.support.waiting import Child

ADDRESS = "http://127.0.0.1:8123"
FILE = re.compile(r"```\w+ file=(\S+)\n(.*?)```", re.DOTALL)
STEP = re.compile(r"```sh\n(?P<code>.*?)```\n(?:\n```output\n(?P<output>.*?)```)?", re.DOTALL)
KEY = re.compile(r"dspx_[0-9a-f]{32}_[\w-]{43}")
CHANGING = (
    (KEY, "KEY"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\b[0-9a-f]{8}(?=\)?$)", re.MULTILINE), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "TIME"),
    (re.compile(r"\d+\.\d+ s\b"), "N s"),
    (re.compile(r"\d+\.\d(?=  ID)"), "N"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
    (re.compile(r"-{5,}"), "-----"),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r"TIME  "), ""),  # of a last use, which is written every half a minute
    (re.compile(r"\d+\.\d(?=  ID)"), "N"),
)


def steady(text: str) -> str:
    """`text` without what is another one each time."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text.strip()


def printed(
    page: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple["re.Match[str]", str]]:
    """Run a page in `folder`, giving each step and what it printed.

    `cd` holds for what follows; `$KEY` is the first key that a step prints. A server runs until
    the next one or the end.
    """
    text = page.read_text(encoding="utf-8")
    bin_, here = folder / "bin", folder / "here"
    bin_.mkdir()
    here.mkdir()
    (bin_ / "dspex").symlink_to(dspex_program())
    path = f"{bin_}:{os.environ['PATH']}"
    variables = {**os.environ, "KEY": "", **(environment or {}), "PATH": path}
    server: Child | None = None
    url, position = ADDRESS, 0
    try:
        for step in STEP.finditer(text):
            for name, content in FILE.findall(text, position, step.start()):
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                (here / name).write_text(content)
            position = step.start()
            if step["code"].startswith("dspex serve"):
                if server is not None:
                    server.stop()
                words = step["code"].splitlines()[0].partition("  #")[0].split()
                server = Child(
                    [sys.executable, "-m", *words, "--port", "0"], cwd=here, env=variables
                )
                line = server.wait_for_line("serving http")
                url = re.search(r"http://[\d.:]+", line)[0]  # type: ignore[index]
                yield step, line.replace(url, ADDRESS)
                continue
            code = step["code"].replace(ADDRESS, url)
            process = _run(f"{code}\npwd > {folder}/place", here, variables)
            assert process.returncode == 0, f"{code}\n{process.stderr}"
            here = Path((folder / "place").read_text().strip())
            if not variables["KEY"] and (key := KEY.search(process.stdout)):
                variables["KEY"] = key[0]
            yield step, re.sub(r"(?<=[}\]])(?=\{)", "\n", process.stdout)
    finally:
        if server is not None:
            server.__exit__()


def rewrite(page: Path, steps: list[tuple["re.Match[str]", str]]) -> None:
    """Put what the steps printed into the page."""
    text = page.read_text(encoding="utf-8")
    for step, output in reversed(steps):
        if step["output"] is not None:
            text = (
                text[: step.start("output")] + output.rstrip() + "\n" + text[step.end("output") :]
            )
    page.write_text(text, encoding="utf-8")


def _run(
    code: str, folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    command = ["/bin/sh", "-ec", code]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
