"""`dspex serve --reload`, as a process."""

import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import Child

pytestmark = pytest.mark.full
COMMAND = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker", "--reload"]
METRIC = "def {name}(example, prediction):\n    return 1.0\n"
SETTINGS = '[metrics]\n{name} = "metrics_of:{name}"\n'


def _metric_names(url: str) -> Any:
    data = json.dumps({"starts_with": "our"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/actions/known_metrics", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["names"]


def _write(folder: Path, name: str) -> None:
    (folder / "metrics_of.py").write_text(METRIC.format(name=name))
    (folder / "dspex.toml").write_text(SETTINGS.format(name=name))


def test_a_server_follows_edits_at_the_same_address_and_ends_with_its_parent(
    tmp_path: Path,
) -> None:
    _write(tmp_path, "our_first")
    with Child(COMMAND, cwd=tmp_path) as server:
        line = server.wait_for_line("serving http")
        address = re.search(r"http://[\d.:]+", line)
        assert address is not None
        assert _metric_names(address[0]) == ["our_first"]
        _write(tmp_path, "our_second")
        server.wait_for_line("changed: the server starts again")
        assert address[0] in server.wait_for_line("serving http")
        assert _metric_names(address[0]) == ["our_second"]
        (tmp_path / "dspex.toml").write_text("[metrics\n")
        server.wait_for_line("it starts again after the next edit")
        _write(tmp_path, "our_third")
        server.wait_for_line("serving http")
        assert _metric_names(address[0]) == ["our_third"]  # waits for the server to start
        assert server.stop() == 128 + signal.SIGTERM
        with pytest.raises(OSError, match="refused"):
            _metric_names(address[0])


def test_the_programs_that_a_server_names_follow_the_edits_of_their_code(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    text = "import dspex\nanswer = dspex.Predict('question -> answer')\n"
    file.write_text(text)
    command = [*COMMAND, "program.py:answer", "--model", "http://127.0.0.1:9/v1#none"]
    with Child(command, cwd=tmp_path) as server:
        server.wait_for_line("answer: version 1")
        server.wait_for_line("serving http")
        file.write_text(text)
        server.wait_for_line("answer: unchanged, version 1")
        server.wait_for_line("serving http")
        file.write_text(text.replace("-> answer", "-> reply"))
        server.wait_for_line("answer: version 2")
        server.wait_for_line("serving http")
        file.write_text("import dspex\nanswer = \n")
        server.wait_for_line("SyntaxError")
        server.wait_for_line("it starts again after the next edit")
        file.write_text(text)
        server.wait_for_line("answer: version 1 is current again, instead of version 2")


def test_a_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    _write(tmp_path, "our_first")
    with Child(COMMAND, cwd=tmp_path) as server:
        server.wait_for_line("serving http")
        os.kill(server.process.pid, signal.SIGKILL)
        with pytest.raises(AssertionError, match="the process ended"):  # the output is closed
            server.wait_for_line("never")
