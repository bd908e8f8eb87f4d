"""Which models take pictures, recordings and files, and the refusal by those that do not."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

from dspex.errors import MediaError
from dspex.execution.clients.language_model import Capability
from dspex.language.records import Message
from dspex.language.records.message import AudioPart, FilePart, ImagePart, TextPart

Modality = Literal["vision", "audio", "documents"]
MODALITIES: Final[tuple[Modality, ...]] = ("vision", "audio", "documents")
_PICTURES: Final[frozenset[Capability]] = frozenset({"vision"})
_PAGES: Final[frozenset[Capability]] = frozenset({"vision", "documents"})
_ALL: Final[frozenset[Capability]] = frozenset(MODALITIES)
_KNOWN: Final[tuple[tuple[str, frozenset[Capability]], ...]] = (
    (r"gpt-audio|gpt-4o(-mini)?-audio", frozenset({"audio"})),
    (r"gpt-4o|chatgpt-4o|gpt-4\.[15]|gpt-[5-9]|o1(?!-mini|-preview)\b|o3(?!-mini)\b|o4\b", _PAGES),
    (r"gpt-4-(turbo|vision)", _PICTURES),
    (r"claude-(?!2|instant)", _PAGES),
    (r"gemini-(?!embedding)", _ALL),
    (r"phi-?4-multimodal|qwen\d?(\.\d)?-omni|gemma-?3n", frozenset({"vision", "audio"})),
    (r"gemma-?3(?!.*(270m|1b))|llama-?4|pixtral|mistral-(small-?3\.[12]|medium)", _PICTURES),
    (r"llava|moondream|minicpm-?v|internvl|-?vl\b|vision|glm-4\S*v\b", _PICTURES),
)
"""Patterns of model names, with what such models take; the first that matches counts."""
_NEEDS: Final[dict[type, Modality]] = {
    ImagePart: "vision",
    AudioPart: "audio",
    FilePart: "documents",
}
_WORDS: Final = {"vision": "pictures", "audio": "recordings", "documents": "files"}


class Capable(Protocol):
    """What has a name and capabilities, as every model does."""

    name: str

    @property
    def capabilities(self) -> frozenset[str]:
        """The declared capabilities."""
        ...


def modalities_of(model: str, declared: Iterable[Modality] | None = None) -> frozenset[Capability]:
    """Return what a model takes beside text: as declared, else what is known of its name."""
    if declared is not None:
        return frozenset(declared)
    matches = (takes for pattern, takes in _KNOWN if re.search(pattern, model.lower()))
    return next(matches, frozenset())


def check_media(model: Capable, messages: Sequence[Message]) -> bool:
    """Return whether messages hold more than text; the model must take all of it.

    Raises:
        MediaError: it does not; nothing was sent.
    """
    has_media = False
    for message in messages:
        if type(message.content) is str:
            continue
        has_media = True
        for part in message.content:
            if isinstance(part, TextPart):
                continue
            need = _NEEDS[type(part)]
            if message.role != "user":
                raise MediaError(f"only user messages hold {_WORDS[need]}, not {message.role}s")
            if need not in model.capabilities:
                raise MediaError(
                    f"{model.name!r} does not take {_WORDS[need]} (the capability {need!r}), and "
                    "the prompt holds one; nothing was sent. Use a model that takes them; if this "
                    f'one does, declare it: media_models = "{model.name}={need}" in dspex.toml, '
                    f"or media=[{need!r}] of the client",
                    kind=need,
                )
    return has_media


def unsupported(model: Capable, what: str, fix: str) -> MediaError:
    """Return the error for a part that the protocol of a model cannot express."""
    return MediaError(f"{model.name!r} does not take {what}: {fix}; nothing was sent")
