"""Files that arguments name."""

import os
import threading
from pathlib import Path

import pytest

from dspex.errors import InvalidError
from dspex.surfaces.cli.do import _value
from dspex.surfaces.cli.files import MAX_BYTES, read_text_file


def test_a_device_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "endless"
    link.symlink_to("/dev/zero")
    for path in (Path("/dev/zero"), link):
        with pytest.raises(InvalidError, match="a device, which may never end"):
            read_text_file(path)


def test_a_pipe_is_read_and_one_without_an_end_is_refused(tmp_path: Path) -> None:
    for count, piece in ((1, b"text"), (MAX_BYTES // 2**20 + 2, b"a" * 2**20)):
        pipe = tmp_path / f"pipe {count}"
        os.mkfifo(pipe)

        def write(pipe: Path = pipe, count: int = count, piece: bytes = piece) -> None:
            try:
                with pipe.open("wb", buffering=0) as end:
                    for _ in range(count):
                        end.write(piece)
            except BrokenPipeError:
                pass

        writer = threading.Thread(target=write)
        writer.start()
        if count == 1:
            assert read_text_file(pipe) == "text"
        else:
            with pytest.raises(InvalidError, match="more than"):
                read_text_file(pipe)
        writer.join(60)


def test_a_deep_value_is_refused_with_a_reason() -> None:
    with pytest.raises(InvalidError, match="nested too deeply"):
        _value("[" * 100_000)
