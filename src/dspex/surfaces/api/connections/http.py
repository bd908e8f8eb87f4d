"""The HTTP protocol of uvicorn (httptools), with limits on what a client may send and how slowly."""

import asyncio
import json
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from dspex.surfaces.api.connections.table import NEVER, Connection, ConnectionTable

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
WHOLE: Final = 3
_TOO_LARGE: Final = (
    "the request line, headers, trailers or chunk extensions are too long or too many"
)
_MALFORMED: Final = "this is not an HTTP/1.1 request"
_CROWDED: Final = "this server has as many connections as it may"


class _RefusalError(Exception):
    """Ends the parsing of a request."""


class GuardedHttp(HttpToolsProtocol):
    """One connection. Bounds what is held of a request before the application sees it, and how long it may take.

    The parser holds a header until it is whole, and reports nothing of a chunk's extensions. Both
    are bounded by the bytes that were fed without any part of a body in them; no header costs
    anything more than in uvicorn itself.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        table: ConnectionTable,
    ) -> None:
        """Take what uvicorn gives, and the table of all connections."""
        super().__init__(config, server_state, app_state, _loop)
        self._table = table
        self._limits = table.limits
        self._phase = IDLE
        self._fed = 0
        self._feed = 0
        self._body_fed = 0
        self._has_begun = False
        self._refusal: int | None = None
        self._connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        self._connection = Connection(transport, address=self.client[0] if self.client else "?")
        if not self._table.admit(self._connection):
            self._answer(503, "too_many_connections", _CROWDED)
            return
        self._wait(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._table.discard(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and look what is held of it now."""
        if self._refusal is not None:
            return  # what comes after a refusal is not read
        self._feed, self._body_fed, self._has_begun = len(data), 0, False
        super().data_received(data)
        if self._phase == HEAD:
            size = len(data) - self._body_fed
            self._fed = size if self._has_begun else self._fed + size
        elif self._phase == BODY and not self._body_fed and not self._has_begun:
            self._fed += len(data)
        else:
            return
        if self._fed > self._limits.head_bytes or len(self.headers) > self._limits.head_count:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begin to wait for the head."""
        super().on_message_begin()
        if self._phase == IDLE:
            self._wait(self._limits.head_s)
        self._phase, self._has_begun = HEAD, True

    def on_headers_complete(self) -> None:
        """Begin a request, unless its head is too large or too many wait behind one another."""
        limits, headers = self._limits, self.headers
        if len(headers) > limits.head_count or len(self.pipeline) >= limits.pipelined:
            raise self._refused(431)
        if self._feed > limits.head_bytes or self._fed:
            size = len(self.url) + sum(len(name) + len(value) for name, value in headers)
            if size > limits.head_bytes:
                raise self._refused(431)
        self._phase, self._fed = BODY, 0
        connection = self._connection
        connection.waits_since = None
        connection.deadline = self._table.now + limits.body_s
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_fed += len(body)
        self._fed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Give the application its time, which it limits itself."""
        if len(self.headers) > self._limits.head_count:  # trailers are among them
            raise self._refused(431)
        self._phase = WHOLE
        super().on_message_complete()
        if self.cycle is None or not self.cycle.response_complete:
            self._connection.deadline = NEVER
        else:  # it was answered before it was whole
            self._rest()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of a body that nobody reads any more."""
        if self._phase == WHOLE:
            self._rest()
        elif self._phase == HEAD:
            self._wait(self._limits.head_s)
        elif self._phase == BODY and not self.pipeline:
            self._connection.deadline = self._table.now + self._limits.linger_s
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; it is counted on as a websocket."""
        self._table.discard(self._connection)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what was refused here, or cannot be parsed; `msg` says it in uvicorn's words."""
        del msg
        if self._refusal is None:
            self._refusal = 400
            self._end(400, "malformed", _MALFORMED)
        else:
            self._refuse(self._refusal)

    def pause_writing(self) -> None:
        """Give a client that does not read only so long."""
        super().pause_writing()
        connection = self._connection
        connection.unsent = NEVER
        connection.deadline = self._table.now + self._limits.stall_s

    def resume_writing(self) -> None:
        """Give the application its time again."""
        super().resume_writing()
        if self._phase == WHOLE and self.transport is not None:
            self._connection.deadline = NEVER

    def _wait(self, seconds: float) -> None:
        connection = self._connection
        connection.waits_since = self._table.turn()
        connection.deadline = self._table.now + seconds

    def _rest(self) -> None:
        if not self.pipeline:
            self._phase = IDLE
            self._wait(self._limits.idle_s)

    def _refused(self, status: int) -> _RefusalError:
        self._refusal = status
        return _RefusalError()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        self._end(status, "head_too_large", _TOO_LARGE)

    def _end(self, status: int, code: str, message: str) -> None:  # the parts of an answer
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(status, code, message)
        elif (
            cycle.response_started or self.pipeline
        ):  # nothing can be said in the middle of other answers
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._answer(status, code, message)

    def _answer(self, status: int, code: str, message: str) -> None:  # the parts of an answer
        error = {"type": None, "code": code, "message": message, "retryable": status in {408, 503}}
        body = json.dumps({"error": error}).encode()
        lines = [
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        self._connection.deadline = self._table.now + self._limits.linger_s
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()
