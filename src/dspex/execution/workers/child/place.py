"""The lines of user code behind an exception, by `dspex.error_text`, for children without dspex."""

from pathlib import Path

from .start import load

_error_text = load("dspex_error_text", Path(__file__).parents[3] / "error_text.py")
place_of = _error_text.place_of
frames_of = _error_text.frames_of
