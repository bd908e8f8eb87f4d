"""A headless Chromium over its debugging pipe: pages as people see them, and scripts in them."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

AXE = "4.10.3"
_DEADLINE_S = 600
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-sync --hide-scrollbars --remote-debugging-pipe"
)
# the browser reads from descriptor 3 and writes to 4
_LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
without_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no Chromium on this machine"
)


class Browser:
    """One page of a browser, which `open` replaces."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._rest, self._numbers = b"", count(1)
        self._session: dict[str, str] = {}
        self.problems: list[str] = []

    def open(self, url: str, *, width: int = 1280, is_dark: bool = False) -> None:
        """Load a page; `problems` are then what its console reports."""
        page = self._send("Target.createTarget", url="about:blank")
        target = {"targetId": page["targetId"], "flatten": True}
        self._session = {"sessionId": self._send("Target.attachToTarget", **target)["sessionId"]}
        self._resize(width, 1000)
        theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[theme])
        for domain in ("Page", "Log", "Runtime"):
            self._send(f"{domain}.enable")
        self.problems = []
        self._send("Page.navigate", url=url)
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the JSON that `script`, the body of an async function, gives in the page."""
        answer = self._send(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def violations(self, axe: str) -> list[Any]:
        """Return what axe, given as its source, finds wrong in the page with all folds open."""
        self._send("Runtime.evaluate", expression=axe)
        return list(
            self.run(
                "for (const fold of document.querySelectorAll('details')) fold.open = true;const "
                "result = await axe.run(document);return result.violations.map((v) => [v.id, "
                "v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary]);"
            )
        )

    def picture(self, *, height: int | None = None) -> bytes:
        """Return the page as a PNG: its top, or all of it up to `height` pixels."""
        script = "return [innerWidth, document.documentElement.scrollHeight];"
        width, whole = self.run(script)
        # what is out of sight is not drawn (content-visibility), so the window grows
        self._resize(width, min(whole, height or whole))
        self.run("await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        return base64.b64decode(self._send("Page.captureScreenshot")["data"])

    def paper(self) -> bytes:
        """Return the page as a PDF."""
        return base64.b64decode(self._send("Page.printToPDF")["data"])

    def _resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._send("Emulation.setDeviceMetricsOverride", **size)

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        session = {} if method.startswith("Target.") else self._session
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != number:
            pass
        assert "error" not in reply, (method, reply["error"])
        return dict(reply["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._replies], [], [], _DEADLINE_S)[0], "the browser hangs"
            part = os.read(self._replies, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}:
            self.problems.append(json.dumps(message["params"]))
        return message


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser with its profile in `folder`, and end it with all its processes."""
    requests, replies = os.pipe(), os.pipe()
    inherited = (requests[0], replies[1])
    launcher = [sys.executable, "-c", _LAUNCHER, *map(str, inherited), "chromium"]
    process = subprocess.Popen(
        [*launcher, *_OPTIONS.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"],
        pass_fds=inherited,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for end in inherited:
        os.close(end)
    try:
        yield Browser(requests[1], replies[0])
    finally:
        os.close(requests[1])
        os.close(replies[0])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_DEADLINE_S)


def axe_source(folder: Path) -> str:
    """Return the script of axe, which npm installs in `folder`; without npm the test is skipped."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    if not (source := folder / "node_modules/axe-core/axe.min.js").exists():
        # `--prefix`: without it, npm installs where a folder above has a package.json
        quietly = ("--no-audit", "--no-fund", "--silent")
        install = [npm, "install", "--prefix", str(folder), *quietly, f"axe-core@{AXE}"]
        subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=_DEADLINE_S)
    return source.read_text(encoding="utf-8")
