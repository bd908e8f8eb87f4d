"""Everything that differs between the versions of dspy that are supported (3.3, 3.4), and what 3.5 changes.

3.3 and 3.4 ask a language model through `BaseLM.forward` with chat messages; 3.5 removes that method and asks an engine
with `complete(request)`. 3.5 also makes XML its default adapter, so the adapter is always named.
"""

import warnings
from typing import Any

try:
    import dspy
    from dspy.utils.exceptions import AdapterParseError
except ImportError as error:
    raise ImportError(
        f"dspy is not installed in this interpreter ({error}): pip install 'dspex[dspy]' "
        "(dspy 3.4 brings litellm along), or name an interpreter that has dspy"
    ) from None

# 3.4 says at every call that `forward` goes away in 3.5; this module is where that is dealt with
warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*BaseLM\.forward")
warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*messages=")

__all__ = ["VERSION", "AdapterParseError", "adapter", "chat_completion", "dspy", "satisfies", "turn_off_caches"]

VERSION: str = dspy.__version__


class _Shape:
    """An object with the attributes of a chat completion, which is what `forward` returns."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401
        self.__dict__.update(attributes)


def chat_completion(reply: "dict[str, Any]") -> Any:  # noqa: ANN401  # dspy reads it by attribute
    """Return the parent's reply in the shape that dspy 3.3 and 3.4 read."""
    choices = [
        _Shape(message=_Shape(content=text, role="assistant"), finish_reason=reply.get("finish_reason") or "stop")
        for text in reply["texts"]
    ]
    return _Shape(choices=choices, usage=reply["usage"], model=reply["model"], id="", object="chat.completion")


def turn_off_caches() -> None:
    """Let no answer come from dspy's own caches: caching is the parent's."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


def adapter(name: str) -> Any:  # noqa: ANN401
    """Return dspy's adapter of that name."""
    return {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter}[name]()


def satisfies(spec: str) -> bool:
    """Whether the installed version fits "3.4.1", "==3.4.*" or an empty requirement."""
    wanted = spec.removeprefix("==").strip()
    return not wanted or wanted == VERSION or (wanted.endswith(".*") and VERSION.startswith(wanted[:-1]))
