"""Reading `multipart/form-data` (RFC 7578): inputs of a program, with files as media."""

import email
import email.message
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from dspex.language.records.media_types import media_type_of
from dspex.language.signatures.content import data_uri
from dspex.operations.framework.field_errors import invalid
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.requests import decode_json, reject_null_characters
from dspex.surfaces.api.responses import RequestError

FORM: Final = b"multipart/form-data"
_MAX_PARTS: Final = 256
_OPTIONS: Final = frozenset({"timeout", "backend", "session_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPart:
    """A part of a form: a text, or a file if it has a file name."""

    name: str
    data: bytes
    filename: str | None
    media_type: str

    def text(self) -> str:
        """Return the text of the part.

        Raises:
            InvalidError: it is not UTF-8, or contains a character that databases cannot store.
        """
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise invalid(self.name, self.data[:50], "UTF-8, or a file with a name") from error
        reject_null_characters(text)
        return text

    def media(self) -> dict[str, str]:
        """Return the file as the JSON form of a picture, recording or file."""
        name = self.filename or ""
        declared = None if self.media_type == "application/octet-stream" else self.media_type
        media_type = media_type_of(self.data) or declared or media_type_of(b"", name)
        media_type = media_type or "application/octet-stream"
        return {"url": data_uri(self.data, media_type), "media_type": media_type, "name": name}


def execute_form(body: bytes, content_type: bytes) -> dict[str, Any]:
    """Return the JSON form of a request to execute a program.

    The part `inputs` is a JSON object; `timeout`, `backend` and `session_id` are as in the JSON
    body. Every other part is an input: a file is a picture, recording or file, anything else a
    text. Several parts with one name are a list.

    Raises:
        RequestError: the body is not a form.
        InvalidError: a part is invalid; the error names it.
    """
    request: dict[str, Any] = {"inputs": {}}
    values: dict[str, list[Any]] = {}
    for part in read_form(body, content_type):
        if part.filename is not None:
            values.setdefault(part.name, []).append(part.media())
        elif part.name == "inputs":
            check_values(part.data)
            inputs = decode_json(part.data)
            if not isinstance(inputs, dict):
                raise invalid("inputs", inputs, "an object", constraint="type")
            request["inputs"] = inputs
        elif part.name in _OPTIONS:
            request[part.name] = decode_json(part.data) if part.name == "timeout" else part.text()
        else:
            values.setdefault(part.name, []).append(part.text())
    for name, items in values.items():
        if name in request["inputs"]:
            raise invalid(name, name, "the only value of this field, which is given twice")
        request["inputs"][name] = items[0] if len(items) == 1 else items
    return request


def read_form(body: bytes, content_type: bytes) -> Iterator[FormPart]:
    """Yield the parts of a form.

    Raises:
        RequestError: the body is not a form, or has more than 256 parts.
    """
    boundary = _headers(b"Content-Type: " + content_type).get_boundary()
    if not boundary:
        raise RequestError("the Content-Type of a form needs a boundary", status=400)
    sections = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    if len(sections) < 2 or not sections[-1].startswith(b"--"):
        raise RequestError("the body is not a form: its last boundary is missing", status=400)
    if len(sections) > _MAX_PARTS + 2:
        raise RequestError(f"a form has at most {_MAX_PARTS} parts", status=413)
    for section in sections[1:-1]:
        head, blank, data = section.partition(b"\r\n\r\n")
        headers = _headers(head.lstrip())
        name = headers.get_param("name", header="content-disposition")
        if not blank or not isinstance(name, str) or not name:
            raise RequestError("a part of the form has no name", status=400)
        filename = headers.get_filename()
        yield FormPart(
            name=_utf8(name),
            data=data,
            filename=None if filename is None else _utf8(filename),
            media_type=headers.get_content_type(),
        )


def _headers(text: bytes) -> "email.message.Message[str, str]":
    return email.message_from_bytes(text + b"\r\n\r\n")


def _utf8(text: str) -> str:
    """Return a header's text, which browsers send as UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
