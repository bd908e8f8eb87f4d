"""What a model answered, kept in a file and given again: tests and demonstrations without a network."""

import threading
from pathlib import Path
from typing import Any, Literal

import msgspec

from dspex.errors import ConfigurationError, ModelError, StorageError, boundary
from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.keys import key_by_name, request_key
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask, retold
from dspex.execution.clients.wrapper import Wrapper

Mode = Literal["record", "replay", "auto"]


class _Line(msgspec.Struct, frozen=True):
    key: str
    request: dict[str, Any]
    response: Response
    model: ModelIdentity | None = None  # lines of dspex before models had an identity go by the name


class Recording(Wrapper):
    """Wraps a model: "record" writes every answer down, "replay" asks nobody, "auto" asks only for what is new.

    The file holds one JSON object a line: key, request and response; it can be read, compared and kept in a
    repository. A request that was recorded several times is answered in that order, its last answer again and again.
    Lines go by the identity of the model. Those of files that were written before there was one go by its name, and
    answer any model of that name.
    """

    def __init__(self, model: LanguageModel, path: str | Path, *, mode: Mode = "auto") -> None:
        """Take the model and the file.

        Raises:
            ConfigurationError: the mode is unknown, there is nothing to replay, or the file holds something else.
        """
        if mode not in {"record", "replay", "auto"}:
            raise ConfigurationError(f"the mode is 'record', 'replay' or 'auto', not {mode!r}")
        super().__init__(model)
        self.path = Path(path)
        self._mode = mode
        self._lock = threading.Lock()
        self._known: dict[str, list[Response]] = {}
        self._by_name: dict[str, list[Response]] = {}
        if mode != "record":
            self._read()

    def __repr__(self) -> str:
        return f"Recording({self.model!r}, {str(self.path)!r})"

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request` from the file, in one piece, or by the model.

        Raises:
            ModelError: the file is replayed and does not hold the request.
        """
        key = request_key(self.identity, request)
        known = self._next(key, request)
        if known is not None:
            return await retold(request, known, emit)
        if self._mode == "replay":
            last = request.messages[-1].content[-200:] if request.messages else ""
            raise ModelError(
                f"{str(self.path)!r} holds no answer to this request to {self.identity.label!r}; it ends {last!r}"
            )
        response = await ask(self.model, request, emit)
        self._write(_Line(key, msgspec.to_builtins(request), response, self.identity))
        return response

    def _next(self, key: str, request: Request) -> Response | None:
        with self._lock:
            held = self._known.get(key)
            if held is None and self._by_name:
                held = self._by_name.get(key_by_name(self.name, request))
            if not held:
                return None
            return held.pop(0) if len(held) > 1 else held[0]

    def _read(self) -> None:
        if not self.path.exists():
            if self._mode == "replay":
                raise ConfigurationError(f"there is no recording {str(self.path)!r}; record it first")
            return
        with boundary(ConfigurationError, f"{str(self.path)!r} is no recording"):
            for text in self.path.read_bytes().splitlines():
                line = msgspec.json.decode(text, type=_Line)
                lines = self._by_name if line.model is None else self._known
                lines.setdefault(line.key, []).append(line.response)

    def _write(self, line: _Line) -> None:
        with boundary(StorageError, f"cannot write {str(self.path)!r}"), self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
            if self._mode == "auto":
                self._known.setdefault(line.key, []).append(line.response)
