"""What all kinds of jobs share: queues, events, and the requirements on workers."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from dspex.error_text import suggest
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.learning.evaluation.metrics import METRICS as BUILT_IN
from dspex.operations.resources.evaluation import EVALUATION, EvaluationRecord
from dspex.operations.resources.optimization_job import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.resources.ports import Insert
from dspex.operations.resources.resource import Resource
from dspex.operations.resources.trail import EventRecord

Job = EvaluationRecord | OptimizationJobRecord
QUEUES: Mapping[str, Resource[Any]] = {"evaluation": EVALUATION, "optimization": OPTIMIZATION_JOB}
"""The queue of each kind of job; its name is also the topic of the job's events."""
METRICS = tuple(BUILT_IN)
OPTIMIZERS = ("LabeledFewShot", "BootstrapFewShot", "RandomSearch", "MIPROv2", "Joint")
_SKIPPED = {"__pycache__", "node_modules"}


def queue_of(resource: Resource[Any]) -> str:
    """Return the queue of a kind of job."""
    return next(name for name, job_resource in QUEUES.items() if job_resource is resource)


def status_event(
    job: Job, resource: Resource[Any], *, id: UUID, now: datetime, message: str | None = None
) -> Insert:
    """Return the event with the state of `job`: status, progress, reason to wait, and a message."""
    payload = {
        "status": job.status,
        "progress": job.progress,
        "waiting": job.waiting,
        "attempts": job.attempts,
        "message": message,
        "error": job.error,
    }
    return Insert(
        EventRecord(
            id=id,
            workspace=job.workspace,
            created_at=now,
            updated_at=now,
            topic=queue_of(resource),
            subject_id=job.id,
            program_id=job.program_id,
            payload=payload,
        )
    )


def needs_of(program: Program, metrics: Sequence[Any], code: CodeRoot | None) -> dict[str, Any]:
    """Return the code root and revision that a worker must have; empty if the job needs no code."""
    is_code = any(node.kind in {"python", "dspy"} for node in program.root.walk())
    if code is None or not (is_code or any(":" in str(metric) for metric in metrics)):
        return {}
    return {"code": code.name, "revision": revision_of(code)}


def revision_of(code: CodeRoot) -> str:
    """Return a hash of all Python files in a code root, except hidden folders and environments."""
    digest = hashlib.blake2b(digest_size=8)
    for file in _sources(code.folder):
        digest.update(str(file.relative_to(code.folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _sources(folder: Path) -> list[Path]:
    files: list[Path] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in _SKIPPED or entry.is_symlink():
            continue
        if entry.is_dir() and not (entry / "pyvenv.cfg").exists():
            files += _sources(entry)
        elif entry.suffix == ".py":
            files.append(entry)
    return files


def target_of(metric: str) -> str:
    """Return the target of a stored metric, without its "name=": a built-in name or "module:function"."""
    return metric.rpartition("=")[2]


def check_metric(name: object, code: CodeRoot | None) -> str | None:
    """Return what is wrong with the name of a metric, or None. Nothing is imported."""
    if not isinstance(name, str):
        return f"a metric name is a text, not {name!r}"
    if name in METRICS:
        return None
    module, colon, function = name.partition(":")
    if not colon:
        return (
            f"there is no metric {name!r}.{suggest(name, METRICS)} Metrics are: "
            f"{', '.join(METRICS)}"
        )
    if code is None:
        return f"{name!r} names code, but this process has no code root; start it with one"
    parts = module.split(".")
    if not function.isidentifier() or not all(part.isidentifier() for part in parts):
        return f"{name!r} is not of the form 'module:function'"
    place = code.folder.joinpath(*parts)
    files = (place.with_suffix(".py"), place / "__init__.py")
    if not any(
        file.is_file() and file.resolve().is_relative_to(code.folder.resolve()) for file in files
    ):
        return f"the code root has no module {module!r}"
    return None
