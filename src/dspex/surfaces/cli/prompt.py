"""`dspex prompt`: show a request without sending it."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from dspex.bootstrap import open_services
from dspex.errors import ConfigurationError, NotFoundError
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.clients import Capability, LanguageModel, Request, Response
from dspex.execution.context import RunContext
from dspex.execution.modules import build
from dspex.execution.modules.instances import with_instances
from dspex.operations.executions.executor import Executor
from dspex.operations.programs.stored_programs import find_program, program_value
from dspex.session import ModelResolver
from dspex.settings import Settings
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.options import (
    adapter_option,
    has_database,
    model_option,
    settings_of,
    state_option,
)
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.targets import code_root, find_target
from dspex.surfaces.cli.values import parse_inputs
from dspex.sync import run


class _RequestCapturedError(Exception):
    def __init__(self, request: Request) -> None:
        super().__init__("captured")
        self.request = request


class _CapturingModel:
    """Replaces a model, with its capabilities; raises the request instead of answering it."""

    def __init__(self, name: str, capabilities: frozenset[Capability]) -> None:
        self.name = name
        self.capabilities = capabilities - {"streaming"}

    async def complete(self, request: Request) -> Response:
        raise _RequestCapturedError(request)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


@click.command("prompt")
@click.argument("target", shell_complete=complete_target)
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@click.option(
    "--inputs", "file", type=click.Path(path_type=Path), help="A JSON file with the inputs."
)
@model_option
@adapter_option
@state_option
@json_option
def prompt_command(
    *,
    target: str,
    values: tuple[str, ...],
    file: Path | None,
    model: str | None,
    adapter: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Show the first request that TARGET would send for these inputs. Nothing is sent or stored."""
    settings = settings_of(adapter=adapter, state_dir=state_dir, model=model)
    request = run(
        _capture_request(target, values, file=file, settings=settings, state_dir=state_dir)
    )
    if as_json:
        show_json(msgspec.to_builtins(request))
        return 0
    for message in request.messages:
        _show_part(message.role, f"{message.text}\n")
    for tool in request.tools:
        _show_part(f"tool {tool.name}", f"{tool.description}\n{_json_text(tool.parameters)}\n")
    if request.tools and request.tool_choice != "auto":
        _show_part("choice of tools", f"{request.tool_choice}\n")
    if request.response_schema is not None:
        _show_part("schema of the reply", _json_text(request.response_schema))
    return 0


def _show_part(title: str, text: str) -> None:
    click.echo(f"{click.style(f'--- {title} ---', bold=True)}\n{text}")


def _json_text(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


async def _capture_request(
    target: str,
    values: tuple[str, ...],
    *,
    file: Path | None,
    settings: Settings,
    state_dir: Path | None,
) -> Request:
    root = code_root()
    program_target = find_target(target, root)
    resolver = ModelResolver(settings)

    def capturing_model(text: str) -> LanguageModel:
        try:
            model = resolver(text)
        except ConfigurationError as error:
            say(
                f"note: {error.message}; the prompt is laid out for a model without special "
                "capabilities"
            )
            return _CapturingModel(text, frozenset())
        return _CapturingModel(model.name, model.capabilities)

    async with AsyncExitStack() as stack:
        context, program = RunContext(embedders=resolver.embedder), program_target.program
        if program is None or has_database(state_dir):  # stored collections are searched
            services = await stack.enter_async_context(
                open_services(replace(settings, model=None), code=root, say=say)
            )
            operations = services.operations
            if program is None:
                record = await find_program(operations, name=program_target.name)
                program = await program_value(operations, record)
            provide = operations.services[Executor].context_provider
            context = await provide(operations.workspace, services.context)
        context = msgspec.structs.replace(
            context,
            model=capturing_model(settings.model)
            if settings.model
            else _CapturingModel("none", frozenset()),
            adapter=find_adapter(settings.adapter),
            models=capturing_model,
        )
        inputs = parse_inputs(values, program.signature, file=file)
        try:
            module = build(program, code=root)
            await module.acall(context, **await with_instances(module, inputs))
        except _RequestCapturedError as captured:
            return captured.request
    raise NotFoundError(f"{target} answered without calling a model")
