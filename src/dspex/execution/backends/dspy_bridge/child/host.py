"""The commands of the dspy host."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import compat, programs  # compat first: its error says what to do without dspy
from .adapters import ADAPTERS, create_adapter
from .compat import AdapterParseError, dspy
from .contracts import inputs_of
from .embedders import redirect_embedders
from .model import NamedModel, ParentModel
from .optimizers import OPTIMIZERS, evaluate, optimize
from .people import answering
from .trail import Trail, paths_of
from .values import Converters, convert_inputs, converters_for, prediction_of


class UnknownProgramError(KeyError):
    """The worker has no program with this handle."""

    code = "not_found"

    def __str__(self) -> str:
        return f"this worker holds no program {self.args[0]!r}; create it first"


class CodeSandboxError(RuntimeError):
    """dspy cannot run the code that a model generated."""

    code = "tool"

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            "the sandbox for generated code needs deno: pip install deno, beside dspy. At its "
            f"first use deno fetches pyodide and a library from the network. It said: {cause}"
        )


class DspyHost:
    """Programs by handle. Each command has its own thread and so its own settings of dspy."""

    def __init__(self, config: "dict[str, Any]") -> None:
        compat.turn_off_caches()
        compat.trace_modules()
        compat.redirect_models(self._model_named)
        redirect_embedders()
        self._config = config
        self._programs: dict[str, Any] = {}
        self._paths: dict[str, dict[int, str]] = {}
        self._converters: dict[str, Converters] = {}
        self._adapters = {name: create_adapter(name) for name in ADAPTERS}
        self._lock = threading.Lock()
        self.commands = {
            "create_program": self._create,
            "execute_program": self._execute,
            "optimize_program": self._optimize,
            "evaluate_program": self._evaluate,
            "get_program": lambda call, args: programs.describe_program(self._get(args["handle"])),
            "list_programs": lambda call, args: list(self._programs),
            "delete_program": self._delete,
            "export_state": lambda call, args: compat.saved_state(self._get(args["handle"])),
            "import_state": self._import_state,
            "configure": lambda call, args: self._config.update(args),
        }

    def describe(self) -> "dict[str, Any]":
        """Return the host's part of the handshake."""
        return {"dspy": compat.VERSION, "optimizers": sorted(OPTIMIZERS)}

    def stats(self) -> "dict[str, Any]":
        """Return the host's part of `stats`."""
        return {"programs": len(self._programs)}

    def _get(self, handle: str) -> Any:
        try:
            return self._programs[handle]
        except KeyError:
            raise UnknownProgramError(handle) from None

    def _create(self, call: Any, args: "dict[str, Any]") -> str:
        handle = str(args["handle"])
        if handle not in self._programs:
            with self._lock:  # never import a user's module twice at the same time
                with dspy.context(dspex_embedding_call=call):  # an index may be built now
                    program = programs.create(args["definition"], self._model_named)
                self._paths.setdefault(handle, paths_of(program))
                self._converters.setdefault(handle, converters_for(program, inputs_of(program)))
                self._programs.setdefault(handle, program)
        return handle

    def _model_named(self, name: str) -> Any:
        return compat.language_model(NamedModel(name), self._config.get("interface", "auto"))

    def _delete(self, call: Any, args: "dict[str, Any]") -> bool:
        self._paths.pop(args["handle"], None)
        self._converters.pop(args["handle"], None)
        return self._programs.pop(args["handle"], None) is not None

    def _import_state(self, call: Any, args: "dict[str, Any]") -> None:
        program = self._get(args["handle"])
        # on a copy first: a load may fail halfway
        programs.load_state(program.deepcopy(), args["state"])
        programs.load_state(program, args["state"])

    @contextmanager
    def _settings(
        self,
        call: Any,
        args: "dict[str, Any]",
        trail: "Trail | None" = None,
    ) -> "Iterator[None]":
        lm = compat.language_model(
            ParentModel(call, args["model"], trail), self._config.get("interface", "auto")
        )
        settings: dict[str, Any] = {
            "dspex_call": call,
            "dspex_embedding_call": call,
            "dspex_trail": trail,
            "callbacks": [],
            "disable_history": True,
        }
        settings["dspex_models"] = dict(args.get("models", {}))
        with dspy.context(lm=lm, adapter=self._adapters[args["adapter"]], **settings):
            try:
                yield
            except AdapterParseError as error:
                error.code = "adapter"  # the parent maps errors by their code
                raise
            except RuntimeError as error:
                # 3.3 and 3.4 define it in different modules
                if type(error).__name__ == "CodeInterpreterError":
                    raise CodeSandboxError(error) from error
                raise

    def _execute(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":
        program = self._get(args["handle"])
        trail = Trail(
            call,
            self._paths[args["handle"]],
            streams=bool(args.get("stream")),
            records_calls=bool(args.get("note")),
        )
        try:
            with self._settings(call, args, trail), answering(call):
                answer = program(**convert_inputs(self._converters[args["handle"]], args["inputs"]))
                if answer is None and trail.failure is not None:  # no attempt of BestOfN succeeded
                    raise trail.failure
        finally:
            trail.end()
        return prediction_of(program, answer)

    def _optimize(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":
        with self._settings(call, args):
            return optimize(
                call, self._get(args["handle"]), args, converters=self._converters[args["handle"]]
            )

    def _evaluate(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":
        with self._settings(call, args):
            return evaluate(
                call, self._get(args["handle"]), args, converters=self._converters[args["handle"]]
            )
