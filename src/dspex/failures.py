"""The user's own lines behind an error, as data and as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.error_text import CodeFrame, causes_of, cut_frames, frames_of
from dspex.errors import DspexError


def user_frames(error: BaseException) -> list[CodeFrame]:
    """Return the lines of the user's code behind an error, here and in a worker; at most 8."""
    links = (link for link in causes_of(error) if isinstance(link, DspexError))
    remote = next((link.remote_frames for link in links if link.remote_frames), ())
    return cut_frames([*frames_of(error), *remote])


def failure_dict(error: DspexError) -> dict[str, object]:
    """Return an error as JSON-ready values with the user's lines; callers who may see code only."""
    frames = user_frames(error)
    return {**error.to_dict(), "frames": frames} if frames else error.to_dict()


def without_frames(value: Any) -> Any:
    """Return the JSON of a failure, of a list or a trace with failures, without lines of code."""
    if isinstance(value, list):
        return [without_frames(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    spans = value.get("spans")
    if isinstance(spans, list):
        return {**value, "spans": [_span_without_frames(span) for span in spans]}
    return {name: part for name, part in value.items() if name != "frames"}


def _span_without_frames(span: Any) -> Any:
    if not isinstance(span, Mapping) or not span.get("error"):
        return span
    return {**span, "attributes": without_frames(span.get("attributes"))}


def frames_text(frames: Sequence[Mapping[str, Any]]) -> str:
    """Return lines of code as text for a terminal, each below its file, line and function."""
    return "\n".join(
        f"  {frame['file']}:{frame['line']} in {frame['function']}\n    {frame['code']}".rstrip()
        for frame in frames
    )
