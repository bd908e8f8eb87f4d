"""The commands of the dspy host."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import compat, programs  # compat first: it says what to do where dspy is missing
from .compat import AdapterParseError, dspy
from .contracts import inputs_of
from .model import OwnModel, ParentModel
from .optimizing import OPTIMIZERS, evaluate, optimize
from .trail import Trail, paths_of
from .values import Taking, prediction_of, taken, takers


class UnknownProgramError(KeyError):
    """There is no program behind a handle."""

    code = "not_found"

    def __str__(self) -> str:
        return f"this worker holds no program {self.args[0]!r}; create it first"


class SandboxError(RuntimeError):
    """dspy cannot run the code that a model wrote."""

    code = "tool"

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            "the sandbox for generated code needs deno: pip install deno, beside dspy. At its first use deno fetches "
            f"pyodide and a library from the network. It said: {cause}"
        )


class DspyHost:
    """Programs by handle. Commands run on threads of their own; dspy's settings are per thread."""

    def __init__(self, config: "dict[str, Any]") -> None:
        compat.turn_off_caches()
        compat.watch_modules()
        compat.ask_through(self._own_model)
        self._config = config
        self._programs: dict[str, Any] = {}
        self._paths: dict[str, dict[int, str]] = {}
        self._taking: dict[str, Taking] = {}
        self._adapters = {name: compat.adapter(name) for name in ("chat", "json")}
        self._lock = threading.Lock()
        self.commands = {
            "create_program": self._create,
            "execute_program": self._execute,
            "optimize_program": self._optimize,
            "evaluate_program": self._evaluate,
            "get_program": lambda call, args: programs.described(self._get(args["handle"])),
            "list_programs": lambda call, args: list(self._programs),
            "delete_program": self._delete,
            "export_state": lambda call, args: compat.saved_state(self._get(args["handle"])),
            "import_state": self._import_state,
            "configure": lambda call, args: self._config.update(args),
        }

    def describe(self) -> "dict[str, Any]":
        """What the handshake adds."""
        return {"dspy": compat.VERSION, "optimizers": sorted(OPTIMIZERS)}

    def stats(self) -> "dict[str, Any]":
        """What `stats` adds."""
        return {"programs": len(self._programs)}

    def _get(self, handle: str) -> Any:  # noqa: ANN401
        try:
            return self._programs[handle]
        except KeyError:
            raise UnknownProgramError(handle) from None

    def _create(self, call: Any, args: "dict[str, Any]") -> str:  # noqa: ANN401
        handle = str(args["handle"])
        if handle not in self._programs:
            with self._lock:  # importing a user's module twice at once helps nobody
                made = programs.create(args["definition"], self._own_model)
                self._paths.setdefault(handle, paths_of(made))
                self._taking.setdefault(handle, takers(made, inputs_of(made)))
                self._programs.setdefault(handle, made)
        return handle

    def _own_model(self, name: str) -> Any:  # noqa: ANN401  # a model of dspy
        return compat.language_model(OwnModel(name), self._config.get("interface", "auto"))

    def _delete(self, call: Any, args: "dict[str, Any]") -> bool:  # noqa: ANN401
        self._paths.pop(args["handle"], None)
        self._taking.pop(args["handle"], None)
        return self._programs.pop(args["handle"], None) is not None

    def _import_state(self, call: Any, args: "dict[str, Any]") -> None:  # noqa: ANN401
        program = self._get(args["handle"])
        programs.load_state(program.deepcopy(), args["state"])  # one that fails halfway must change nothing
        programs.load_state(program, args["state"])

    @contextmanager
    def _settings(self, call: Any, args: "dict[str, Any]", trail: "Trail | None" = None) -> "Iterator[None]":  # noqa: ANN401
        lm = compat.language_model(ParentModel(call, args["model"], trail), self._config.get("interface", "auto"))
        settings: dict[str, Any] = {"dspex_call": call, "dspex_trail": trail, "callbacks": [], "disable_history": True}
        settings["dspex_models"] = dict(args.get("models", {}))
        with dspy.context(lm=lm, adapter=self._adapters[args["adapter"]], **settings):
            try:
                yield
            except AdapterParseError as error:
                error.code = "adapter"  # what the parent knows such an error by
                raise
            except RuntimeError as error:
                if type(error).__name__ == "CodeInterpreterError":  # 3.3 and 3.4 keep it in different places
                    raise SandboxError(error) from error
                raise

    def _execute(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
        program = self._get(args["handle"])
        trail = Trail(call, self._paths[args["handle"]], tells=bool(args.get("stream")), notes=bool(args.get("note")))
        try:
            with self._settings(call, args, trail):
                answer = program(**taken(self._taking[args["handle"]], args["inputs"]))
        finally:
            trail.end()
        return prediction_of(program, answer)

    def _optimize(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
        with self._settings(call, args):
            return optimize(call, self._get(args["handle"]), args, taking=self._taking[args["handle"]])

    def _evaluate(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
        with self._settings(call, args):
            return evaluate(call, self._get(args["handle"]), args, taking=self._taking[args["handle"]])
