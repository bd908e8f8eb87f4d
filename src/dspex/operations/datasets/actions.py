"""The actions on data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from dspex.errors import (
    ConflictError,
    DefinitionError,
    InvalidError,
    SignatureError,
)
from dspex.language.signatures import Signature
from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.language.signatures.effort import size_of
from dspex.learning.evaluation import Dataset
from dspex.operations.datasets.records import DATASET, DatasetRecord
from dspex.operations.datasets.row_errors import row_errors
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.records import ENDED, EXECUTION, ExecutionRecord
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.missing_rows import missing_row
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.stored_programs import find_program, program_value

Split = Literal["train", "validation", "test"]
MOST_ROWS = 100_000
MOST_VALUES = 100_000  # in one row
_PAGE = 200
_PROBLEMS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDataset:
    """Store rows, each an object from field to value, as a new version of a data set.

    If the rows equal those of the newest version, that version is returned. `split` is what they
    are for.
    """

    name: str
    rows: list[Any]
    split: Split = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFromExecutions:
    """Store the inputs and outputs of a program's executions, newest first, as a data set.

    `status` is that of the executions; `limit` is their maximum number. Executions whose inputs
    are not stored are skipped. `split` is what the rows are for.
    """

    name: str
    program_id: UUID | None = None
    program: str | None = None
    status: str = "completed"
    limit: int = 1000
    split: Split = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateDataset:
    """Check which rows of a data set fit a program, or a signature in its string form.

    Outputs may be missing.
    """

    dataset_id: UUID | None = None
    dataset: str | None = None
    program_id: UUID | None = None
    program: str | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleDataset:
    """Draw `count` rows without replacement; the same `seed` draws the same rows."""

    dataset_id: UUID | None = None
    dataset: str | None = None
    count: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetValidity:
    """Whether a data set fits. `problems` holds the first fifty: the row number and the field error."""  # noqa: E501  # the text of the schema

    dataset: DatasetRecord
    valid_rows: int
    invalid_rows: int
    problems: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSample:
    """Rows of a data set and their row numbers."""

    dataset: DatasetRecord
    rows: list[Any]
    numbers: list[int]


@action(DATASET, scope="write")
async def create_dataset(operations: Operations, request: CreateDataset) -> DatasetRecord:
    """Store rows as a data set, or as its next version.

    Raises:
        InvalidError: the name is empty, or the rows are not a list of objects.
    """
    return await store_dataset(operations, request, source="rows")


async def store_dataset(
    operations: Operations, request: CreateDataset, *, source: str
) -> DatasetRecord:
    """Store rows with their `source`; see `create_dataset`."""
    if not request.name.strip():
        raise invalid("name", request.name, "a name with at least one visible character")
    if request.split not in {"train", "validation", "test"}:
        raise invalid("split", request.split, "train, validation or test")
    if not isinstance(request.rows, list) or not 0 < len(request.rows) <= MOST_ROWS:
        raise invalid("rows", request.rows, f"a list of 1 to {MOST_ROWS} rows")

    def examine(work: CancellableRun) -> tuple[str, dict[str, Any]]:
        for number, row in enumerate(request.rows):
            work.step()
            if isinstance(row, dict) and (size := size_of(row)) > MOST_VALUES:
                raise ValueError(
                    f"row {number} holds {size} values, more than the {MOST_VALUES} allowed"
                )
        return Dataset.from_rows(request.rows, name=request.name).checksum, _schema(
            request.rows, work
        )

    try:
        checksum, schema = await operations.services[HeavyWork].run(examine)
    except (DefinitionError, TypeError, ValueError, RecursionError) as error:
        raise invalid(
            "rows", request.rows, f"a list of objects of JSON values ({error})"
        ) from error
    where = {"workspace": operations.workspace, "name": request.name}
    newest = next(iter(await operations.store.select(DATASET, Query(where=where, limit=1))), None)
    if newest is not None and (newest.checksum, newest.split) == (checksum, request.split):
        return newest
    record = DatasetRecord(
        **operations.new_row(),
        name=request.name,
        version=1 if newest is None else newest.version + 1,
        split=request.split,
        schema=schema,
        rows=request.rows,
        row_count=len(request.rows),
        checksum=checksum,
        source=source,
    )
    try:
        await operations.store.write(Insert(record))
    except ConflictError as error:
        raise ConflictError(
            f"another client stored a version of {request.name!r} at the same time; try again"
        ) from error
    return record


@action(DATASET, scope="write")
async def dataset_from_executions(
    operations: Operations, request: DatasetFromExecutions
) -> DatasetRecord:
    """Store the inputs and outputs of a program's executions as a data set.

    Raises:
        InvalidError: no execution qualifies, or a value is out of range.
    """
    program = await find_program(operations, request.program_id, request.program)
    if request.status not in ENDED:
        raise invalid("status", request.status, f"one of {', '.join(ENDED)}")
    if not 0 < request.limit <= MOST_ROWS:
        raise invalid("limit", request.limit, f"a number from 1 to {MOST_ROWS}")
    where = {"workspace": operations.workspace, "program_id": program.id, "status": request.status}
    rows: list[Any] = []
    after: UUID | None = None
    while len(rows) < request.limit:
        page: Sequence[ExecutionRecord] = await operations.store.select(
            EXECUTION, Query(where=where, after=after, limit=_PAGE)
        )
        rows += [
            {**row.inputs, **(row.outputs or {})} for row in page if row.payloads != "withheld"
        ]
        if len(page) < _PAGE:
            break
        after = page[-1].id
    if not rows:
        raise invalid(
            "status",
            request.status,
            f"a status in which {program.name!r} has executions with stored inputs",
        )
    dataset_request = CreateDataset(
        name=request.name, rows=rows[: request.limit], split=request.split
    )
    return await store_dataset(operations, dataset_request, source=f"executions of {program.name}")


@action(DATASET, scope="read")
async def validate_dataset(operations: Operations, request: ValidateDataset) -> DatasetValidity:
    """Check which rows of a data set fit a program or a signature.

    Raises:
        InvalidError: not exactly one of program and signature is given, or the signature is
        invalid. NotFoundError: the data set or the program does not exist.
    """
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    signature = await _signature(operations, request)

    def examine(work: CancellableRun) -> tuple[int, list[Any]]:
        problems: list[Any] = []
        invalid_rows = 0
        for number, row in enumerate(data.rows):
            work.step()
            errors = row_errors(
                signature, row, work=work, most=operations.services[Executor].input_limits
            )
            invalid_rows += bool(errors)
            problems += [
                {"row": number, **error.to_dict()} for error in errors[: _PROBLEMS - len(problems)]
            ]
        return invalid_rows, problems

    invalid_rows, problems = await operations.services[HeavyWork].run(examine)
    return DatasetValidity(
        dataset=data,
        valid_rows=len(data.rows) - invalid_rows,
        invalid_rows=invalid_rows,
        problems=problems,
    )


@action(DATASET, scope="read")
async def sample_dataset(operations: Operations, request: SampleDataset) -> DatasetSample:
    """Draw random rows of a data set.

    Raises:
        InvalidError: the data set has fewer rows.
        NotFoundError: the data set does not exist.
    """
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    if not 0 < request.count <= data.row_count:
        raise invalid(
            "count", request.count, f"a number from 1 to {data.row_count}, the number of rows"
        )
    row_numbers = Dataset.from_rows([{"number": number} for number in range(data.row_count)])
    numbers = [
        int(str(row["number"])) for row in row_numbers.sample(request.count, seed=request.seed)
    ]
    return DatasetSample(
        dataset=data, rows=[data.rows[number] for number in numbers], numbers=numbers
    )


async def dataset_of(
    operations: Operations, dataset_id: UUID | None, name: str | None
) -> DatasetRecord:
    """Return a data set by id, or the newest version by name.

    Raises:
        InvalidError: neither or both are given.
        NotFoundError: the data set does not exist.
    """
    if (dataset_id is None) == (name is None):
        raise InvalidError("give either the data set's id or its name")
    where = {
        "workspace": operations.workspace,
        **({"name": name} if dataset_id is None else {"id": dataset_id}),
    }
    rows = await operations.store.select(DATASET, Query(where=where, limit=1))
    if not rows:
        raise await missing_row(operations, DATASET, dataset_id or str(name), noun="data set")
    return rows[0]


async def _signature(operations: Operations, request: ValidateDataset) -> Signature:
    of_program = request.program_id is not None or request.program is not None
    if of_program == (request.signature is not None):
        raise InvalidError("give either a program or a signature")
    if request.signature is None:
        return (
            await program_value(
                operations, await find_program(operations, request.program_id, request.program)
            )
        ).signature
    text = request.signature
    try:
        return await operations.services[HeavyWork].run(lambda _: Signature(text))
    except SignatureError as error:
        raise invalid("signature", text, f"a signature ({error.message})") from error


def _schema(rows: Sequence[Mapping[str, Any]], work: CancellableRun) -> dict[str, Any]:
    """Return each field with the types of its values and the number of rows that have it."""
    fields: dict[str, Any] = {}
    for row in rows:
        work.step()
        for name, value in row.items():
            summary = fields.setdefault(name, {"types": [], "rows": 0})
            summary["rows"] += 1
            kind = "null" if value is None else type(value).__name__
            if kind not in summary["types"]:
                summary["types"].append(kind)
    return {"fields": fields}
