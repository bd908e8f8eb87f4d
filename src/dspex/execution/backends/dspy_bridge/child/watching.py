"""A run as events: each predictor's answer as soon as it is there."""

from typing import Any

from dspy.utils.callback import BaseCallback

from .programs import plain


class Watching(BaseCallback):
    """Sends a `stream` event when a predictor begins and when it has answered."""

    def __init__(self, call: Any, program: Any) -> None:  # noqa: ANN401
        self._call = call
        self._paths = {id(predictor): path for path, predictor in program.named_predictors()}
        self._open: dict[str, str] = {}

    def on_module_start(self, call_id: str, instance: Any, inputs: "dict[str, Any]") -> None:  # noqa: ANN401
        """Say that a predictor begins."""
        if id(instance) in self._paths:
            self._open[call_id] = self._paths[id(instance)]
            self._call.emit("stream", {"path": self._open[call_id], "state": "begun"})

    def on_module_end(self, call_id: str, outputs: Any, exception: "Exception | None" = None) -> None:  # noqa: ANN401
        """Say what it answered."""
        path = self._open.pop(call_id, None)
        if path is not None:
            answer = plain(outputs.toDict()) if exception is None and outputs is not None else None
            self._call.emit("stream", {"path": path, "state": "done", "outputs": answer})
