"""The content of messages in OpenAI's chat protocol, which dspy's models also read."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspex.errors import MediaError
from dspex.execution.clients.modalities import Capable, unsupported
from dspex.language.records import Message
from dspex.language.records.message import (
    AudioPart,
    Content,
    FilePart,
    ImagePart,
    Part,
    TextPart,
    join_content,
)

_AUDIO: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_AUDIO_TYPES: Final = {"mp3": "audio/mpeg"}
_DATA_URI: Final = re.compile(r"data:([^,;]*)(?:;[^,]*?)?;base64,")


def chat_content(model: Capable, message: Message) -> str | list[dict[str, Any]]:
    """Return the content of a message in this protocol.

    Raises:
        MediaError: the protocol cannot express a part.
    """
    if isinstance(message.content, str):
        return message.content
    return [_chat_part(model, part) for part in message.content]


def _chat_part(model: Capable, part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart):
        detail = {"detail": part.detail} if part.detail else {}
        return {"type": "image_url", "image_url": {"url": part.address, **detail}}
    if part.url:
        raise unsupported(model, f"the URL of a recording or file ({part.url})", "give its bytes")
    if isinstance(part, AudioPart):
        if part.media_type not in _AUDIO:
            raise unsupported(model, part.media_type, "recordings are WAV or MP3")
        audio = {"data": part.base64, "format": _AUDIO[part.media_type]}
        return {"type": "input_audio", "input_audio": audio}
    file = {"filename": part.name or "file.pdf", "file_data": part.address}
    return {"type": "file", "file": file}


def read_chat_content(content: str | Sequence[Mapping[str, Any]]) -> Content:
    """Return the content of a message that is written in this protocol.

    Raises:
        MediaError: a part is not text, image_url, input_audio or file, or has no readable bytes.
    """
    if isinstance(content, str):
        return content
    return join_content(*(_read_part(part) for part in content))


def _read_part(part: Mapping[str, Any]) -> Content:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
            detail = rest.get("detail")
            return (ImagePart(**_source(url), detail=None if detail is None else str(detail)),)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(kind)}}:
            media_type = _AUDIO_TYPES.get(kind, f"audio/{kind}")
            return (AudioPart(media_type=media_type, data=_decode(data)),)
        case {"type": "file", "file": {"file_data": str(url), **rest}}:
            name = rest.get("filename")
            return (FilePart(**_source(url), name=None if name is None else str(name)),)
    raise MediaError(
        f"a message holds a part of the type {part.get('type')!r} without the data of a text, "
        "image_url, input_audio or file"
    )


def _source(url: str) -> dict[str, Any]:
    if match := _DATA_URI.match(url):
        return {"media_type": match[1], "data": _decode(url[match.end() :])}
    return {"url": url}


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"a part of a message is not base64: {error}") from error
