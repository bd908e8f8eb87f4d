"""The layouts of prompts, as models for tests read them: the inputs, and the outputs to give."""

import json
import re
from collections.abc import Mapping
from typing import Any

from dspex.execution.clients import Request

_CHAT = re.compile(r"`\[\[ ## (\w+) ## \]\]`")
_XML = re.compile(r"`<(\w+)>`")
_DECLARED = re.compile(r"You answer with[^\n]* fields:\n((?:\d+\. `\w+`.*\n?)+)")
_JSON = re.compile(r"`(\w+)`")


def output_fields(request: Request) -> list[str]:
    """Return the names of the outputs that a chat, XML or JSON prompt asks for."""
    last = _question(request)
    chat = [name for name in _CHAT.findall(last) if name != "completed"]
    if names := chat or _XML.findall(last) or _JSON.findall(last):
        return names
    lists = _DECLARED.findall(request.messages[0].text)
    return re.findall(r"^\d+\. `(\w+)`", lists[-1], re.MULTILINE) if lists else []


def _question(request: Request) -> str:
    return request.messages[-1].text.rpartition("Respond with")[2]


def input_value(request: Request, field: str) -> str:
    """Return the last value of an input in a chat, XML, JSON or agent prompt, or an empty text."""
    name = re.escape(field)
    patterns = (
        rf"\[\[ ## {name} ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\n(?:Answer|Respond) with |\Z)",
        rf"<{name}>\n(.*?)\n</{name}>",
        rf"^{name}: (.*?)(?=\n\n\w+: |\Z)",
    )
    texts = [message.text for message in request.messages if message.role == "user"]
    for text in reversed(texts):
        for pattern in patterns:
            if matches := re.findall(pattern, text, re.DOTALL | re.MULTILINE):
                return str(matches[-1]).strip()
    return ""


def fill_in(request: Request, values: Mapping[str, Any]) -> str:
    """Return a reply in the layout that a chat, XML or JSON prompt asks for.

    The value of a field that `values` lacks is its name.
    """
    names, question = output_fields(request), _question(request)
    texts = {name: _text(values.get(name, name)) for name in names}
    if _CHAT.search(question):
        parts = [f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])
    if _XML.search(question):
        return "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in texts.items())
    return json.dumps({name: values.get(name, name) for name in names})


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
