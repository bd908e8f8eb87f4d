"""The page on feedback: its commands run in order, on a mock of the program."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.command_server import run_dspex

PAGE = Path(__file__).parents[2] / "docs" / "feedback.md"
ID = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b")


@pytest.mark.full
def test_the_commands_on_feedback_run_in_order(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (module,) = re.findall(r"```python file=triage.py\n(.*?)```", text, re.DOTALL)
    (tmp_path / "triage.py").write_text(module)
    printed, key = {}, ""
    for line in "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines():
        words = [key if word == "ID" else word for word in shlex.split(line)]
        process = run_dspex(tmp_path, *words[1:])
        assert process.returncode == 0, f"{line}\n{process.stderr}"
        name = " ".join(words[1:3])
        printed[name] = process.stdout
        if name in {"execution list", "annotation take"}:
            key = ID.findall(process.stdout.splitlines()[0 if "take" in name else 1])[-1]
    assert "/feedback?link=" in printed["feedback link"]
    assert "wrong" not in printed["feedback scores"]
    assert '"executions": 1' in printed["feedback scores"]
    assert "corrected" in printed["dataset list"]
    assert "added: 1" in printed["annotation queue"]
    assert "The server is down" in printed["annotation take"]
