"""A copy of the source with changes: what a change touches is tried, not argued."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dspex

SOURCE = Path(dspex.__file__).parent
ROOT = Path(__file__).resolve().parents[2]


class ChangedSource:
    """A copy of the package in a folder. `touched` are the files that were changed or added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        shutil.copytree(SOURCE, folder / "dspex")

    def add(self, file: str, text: str) -> None:
        """Add a file."""
        (self.folder / "dspex" / file).write_text(text)
        self.touched.add(file)

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace a text that occurs once in a file."""
        path = self.folder / "dspex" / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old, text.count(old))
        path.write_text(text.replace(old, new))
        self.touched.add(file)

    def run(self, *arguments: str) -> str:
        """Run a module of the tests on the copy, in another process.

        `python -m` with `arguments`.
        """
        # the copy comes before the installed package
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        result = subprocess.run(
            [sys.executable, "-m", *arguments],
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


def help_of(command: str) -> str:
    """Return what `dspex COMMAND --help` prints, in one line."""
    from dspex.surfaces.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        main([command, "--help"])
    return " ".join(output.getvalue().split())
