"""Record model responses in a file and replay them: tests and demos without a network."""

import threading
from pathlib import Path
from typing import Any, Literal

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError, ModelError, StorageError, boundary
from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.language_model import (
    Emit,
    LanguageModel,
    Request,
    Response,
    ask,
    emit_whole,
)
from dspex.execution.clients.request_keys import key_by_name, request_data, request_key
from dspex.execution.clients.wrapper import Wrapper

Mode = Literal["record", "replay", "auto"]


class _Line(msgspec.Struct, frozen=True):
    key: str
    request: dict[str, Any]
    response: Response
    model: ModelIdentity | None = None  # None in older files, which have only names


@checks_names
class Recording(Wrapper):
    """Wraps a model; records its answers in a file and replays them.

    The mode "record" asks the model and records every answer, "replay" never asks the model, and
    "auto" asks and records only what the file does not have.

    The file has one JSON object per line with key, request and response; it can be read, compared
    and kept in a repository. A request that was recorded several times is answered in that order,
    and then with the last answer. The key of a line is the identity of the model; in files from
    before models had one it is the name, and such lines answer any model of that name.
    """

    def __init__(self, model: LanguageModel, path: str | Path, *, mode: Mode = "auto") -> None:
        """Take the model and the file.

        Raises:
            ConfigurationError: the mode is unknown, or the file is missing or not a recording.
        """
        if mode not in {"record", "replay", "auto"}:
            raise ConfigurationError(f"the mode must be 'record', 'replay' or 'auto', not {mode!r}")
        super().__init__(model)
        self.path = Path(path)
        self._mode = mode
        self._lock = threading.Lock()
        self._responses: dict[str, list[Response]] = {}
        self._by_name: dict[str, list[Response]] = {}
        if mode != "record":
            self._read()

    def __repr__(self) -> str:
        return f"Recording({self.model!r}, {str(self.path)!r})"

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request` from the file, in one chunk, or by the model.

        Raises:
            ModelError: the mode is "replay" and the file does not contain the request.
        """
        key = request_key(self.identity, request)
        response = self._next(key, request)
        if response is not None:
            return await emit_whole(request, response, emit)
        if self._mode == "replay":
            last = request.messages[-1].text[-200:] if request.messages else ""
            raise ModelError(
                f"{str(self.path)!r} has no answer to this request to {self.identity.label!r}, "
                f"which ends in {last!r}"
            )
        response = await ask(self.model, request, emit)
        self._write(_Line(key, request_data(request), response, self.identity))
        return response

    def _next(self, key: str, request: Request) -> Response | None:
        with self._lock:
            responses = self._responses.get(key)
            if responses is None and self._by_name:
                responses = self._by_name.get(key_by_name(self.name, request))
            if not responses:
                return None
            return responses.pop(0) if len(responses) > 1 else responses[0]

    def _read(self) -> None:
        if not self.path.exists():
            if self._mode == "replay":
                raise ConfigurationError(
                    f"there is no recording {str(self.path)!r}; record it first"
                )
            return
        with boundary(ConfigurationError, f"{str(self.path)!r} is not a recording"):
            for text in self.path.read_bytes().splitlines():
                line = msgspec.json.decode(text, type=_Line)
                lines = self._by_name if line.model is None else self._responses
                lines.setdefault(line.key, []).append(line.response)

    def _write(self, line: _Line) -> None:
        with boundary(StorageError, f"cannot write {str(self.path)!r}"), self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
            if self._mode == "auto":
                self._responses.setdefault(line.key, []).append(line.response)
