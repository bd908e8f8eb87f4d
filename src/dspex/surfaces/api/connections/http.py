"""The HTTP protocol of uvicorn (httptools), with limits on what a client sends and how slowly."""

import asyncio
import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dspex.surfaces.api.connections.table import NEVER, Connection
from dspex.surfaces.api.connections.tracked_protocol import TrackedProtocol

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
COMPLETE: Final = 3
_TOO_LARGE: Final = (
    "the request line, headers, trailers or chunk extensions are too long or too many"
)
_MALFORMED: Final = "this is not an HTTP/1.1 request"
_CROWDED: Final = "this server has reached its limit of connections"


class _RefusalError(Exception):
    """Ends the parsing of a request."""


class GuardedHttp(TrackedProtocol, HttpToolsProtocol):
    """One HTTP connection, with limits on the size of a head and on the time of each step.

    The parser buffers an incomplete header, and reports nothing about chunk extensions. Both are
    bounded by the number of bytes that arrived without any part of a body, so that a header costs
    no more than in uvicorn itself.
    """

    def __init__(self, **options: Any) -> None:
        """Take the table of all connections, and the options of uvicorn."""
        super().__init__(**options)
        self._phase = IDLE
        self._head_bytes = 0  # that arrived since the last part of a body
        self._received_bytes = 0  # by the current call of `data_received`, likewise the next two
        self._received_body_bytes = 0
        self._has_begun = False
        self._refusal: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        self._connection = Connection(transport, client=self.client)
        if self._table.admit(self._connection):
            self._wait(self._limits.head_s)
        else:
            self._send_error(503, "too_many_connections", _CROWDED)

    def data_received(self, data: bytes) -> None:
        """Parse data, and check how much of it the parser buffers."""
        if self._refusal is not None:
            return  # nothing is read after a refusal
        self._received_bytes, self._received_body_bytes = len(data), 0
        self._has_begun = False
        super().data_received(data)
        if self._phase == HEAD:
            size = len(data) - self._received_body_bytes
            self._head_bytes = size if self._has_begun else self._head_bytes + size
        elif self._phase == BODY and not self._received_body_bytes and not self._has_begun:
            self._head_bytes += len(data)
        else:
            return
        if (
            self._head_bytes > self._limits.head_bytes
            or len(self.headers) > self._limits.head_count
        ):
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Start to wait for the head."""
        super().on_message_begin()
        if self._phase == IDLE:
            self._wait(self._limits.head_s)
        self._phase, self._has_begun = HEAD, True

    def on_headers_complete(self) -> None:
        """Start a request, unless its head is too large or too many requests are pipelined."""
        limits, headers = self._limits, self.headers
        if len(headers) > limits.head_count or len(self.pipeline) >= limits.pipelined:
            raise self._refusal_error(431)
        if self._received_bytes > limits.head_bytes or self._head_bytes:
            size = len(self.url) + sum(len(name) + len(value) for name, value in headers)
            if size > limits.head_bytes:
                raise self._refusal_error(431)
        self._phase, self._head_bytes = BODY, 0
        self._connection.waits_since = None
        self._close_after(limits.body_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._received_body_bytes += len(body)
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Leave the time limit to the application."""
        if len(self.headers) > self._limits.head_count:  # they include trailers
            raise self._refusal_error(431)
        self._phase = COMPLETE
        super().on_message_complete()
        if self.cycle is None or not self.cycle.response_complete:
            self._connection.deadline = NEVER
        else:  # the response was sent before the request was complete
            self._become_idle()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of a body that is no longer needed."""
        if self._phase == COMPLETE:
            self._become_idle()
        elif self._phase == HEAD:
            self._wait(self._limits.head_s)
        elif self._phase == BODY and not self.pipeline:
            self._close_after(self._limits.linger_s)
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; the websocket protocol counts it from now on."""
        self._table.discard(self._connection)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Send an error for a refused or malformed request, instead of uvicorn's text `msg`."""
        del msg
        if self._refusal is None:
            self._refusal = 400
            self._send_error_and_close(400, "malformed", _MALFORMED)
        else:
            self._refuse(self._refusal)

    def resume_writing(self) -> None:
        """Leave the time limit to the application again."""
        super().resume_writing()
        if self._phase == COMPLETE and self.transport is not None:
            self._connection.deadline = NEVER

    def _wait(self, seconds: float) -> None:
        self._connection.waits_since = self._table.next_turn()
        self._close_after(seconds)

    def _become_idle(self) -> None:
        if not self.pipeline:
            self._phase = IDLE
            self._wait(self._limits.idle_s)

    def _refusal_error(self, status: int) -> _RefusalError:
        self._refusal = status
        return _RefusalError()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        self._send_error_and_close(status, "head_too_large", _TOO_LARGE)

    def _send_error_and_close(self, status: int, code: str, message: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._send_error(status, code, message)
        elif cycle.response_started or self.pipeline:
            self.transport.close()  # an error cannot be sent in the middle of other responses
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._send_error(status, code, message)

    def _send_error(self, status: int, code: str, message: str) -> None:
        error = {"type": None, "code": code, "message": message, "retryable": status in {408, 503}}
        body = json.dumps({"error": error}).encode()
        lines = [
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        self._close_after(self._limits.linger_s)
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()
