"""Completion scripts for shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from dspex.surfaces.cli import main
from dspex.surfaces.cli.completion import VARIABLE
from dspex.surfaces.cli.main import cli

DSPEX = Path(sys.executable).with_name("dspex")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["completion", shell])
    script = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"_DSPEX_COMPLETE={shell}_complete" in script


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["completion", "csh"])
    assert stop.value.code == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.bridge
def test_a_real_bash_completes_commands_and_options(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None or not DSPEX.exists():
        pytest.skip("needs bash and the installed `dspex` command")
    script = subprocess.run(
        [DSPEX, "completion", "bash"], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [
        script.stdout,
        "COMP_WORDS=(dspex opt); COMP_CWORD=1; _dspex_completion dspex; echo ${COMPREPLY[@]}",
        "COMPREPLY=(); COMP_WORDS=(dspex eval --met); COMP_CWORD=2; _dspex_completion dspex; echo "
        "${COMPREPLY[@]}",
    ]
    environment = {**os.environ, "PATH": f"{DSPEX.parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        [bash, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
        cwd=tmp_path,
    )
    assert result.stdout.split() == ["optimize", "optimization", "--metric", "--metrics"]
    assert list(tmp_path.iterdir()) == []


def completions(*words: str) -> list[str]:
    completion = BashComplete(cli, {}, "dspex", VARIABLE)
    return [item.value for item in completion.get_completions([*words[:-1]], words[-1])]


@pytest.mark.full
def test_targets_stored_names_and_actions_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(
        "class Triage: ...\n@dspex.program\ndef tidy(): ...\ndef tell(): ...\nother = 1\n"
    )
    assert completions("run", "a") == ["app.py"]
    assert completions("run", "app.py:t") == ["app.py:tidy"]
    assert list(tmp_path.glob(".dspex")) == []
    with pytest.raises(SystemExit):
        main(["program", "create", "answers", "q -> a", "--backend", "mock"])
    assert completions("run", "a") == ["app.py", "answers"]
    assert completions("program", "show", "") == ["answers"]
    assert completions("execution", "show", "") == []
    assert completions("do", "create_pro") == ["create_program"]
    assert completions("program", "act") == ["activate"]


def test_an_unknown_verb_suggests_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["program", "lst"])
    assert ended.value.code == 2
    assert "Did you mean 'list'?" in capsys.readouterr().err
