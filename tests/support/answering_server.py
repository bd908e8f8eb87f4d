"""An OpenAI-compatible server on loopback.

It gives every prompt the same fields, in chat layout; a prompt with tools is answered by a call of
the last one.
"""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


def _text(values: Mapping[str, object]) -> dict[str, object]:
    """Return a message with the values in chat layout."""
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return {"role": "assistant", "content": "\n\n".join([*parts, "[[ ## completed ## ]]"])}


def _body(message: Mapping[str, object]) -> bytes:
    reply = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
        "model": "m",
    }
    return json.dumps(reply).encode()


def _call(tool: Any, values: Mapping[str, object]) -> dict[str, object]:
    """Return a message that calls a tool with those of the values that it takes."""
    names = tool["function"]["parameters"]["properties"]
    arguments = json.dumps({name: values[name] for name in names})
    function = {"name": tool["function"]["name"], "arguments": arguments}
    call = {"id": "1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class AnsweringServer:
    """`model` is the model string to use.

    `asked` lists the prompts as they came. Lives in `with`.
    """

    def __init__(self, values: Mapping[str, object], *, seconds: float = 0.0) -> None:
        self._values = values
        requests: list[Any] = []
        values_of = self.values
        closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                requests.append(request)
                values = values_of(request)
                tools = request.get("tools")
                body = _body(_call(tools[-1], values) if tools else _text(values))
                closing.wait(seconds)  # how long the model thinks
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        self.asked = requests
        self._closing = closing
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.model = f"http://127.0.0.1:{self._server.server_address[1]}/v1#m"

    def values(self, _request: Any) -> Mapping[str, object]:
        """Return the fields of the reply to a request."""
        return self._values

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
