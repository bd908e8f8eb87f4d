import asyncio
import importlib
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dspex import Predict
from dspex.errors import (
    BudgetError,
    ExecutionError,
    InputError,
    ModelUnavailableError,
    WaitingForAnswerError,
    WorkerLostError,
    WorkerTimeoutError,
)
from dspex.execution.backends import IsolatedBackend, NativeBackend
from dspex.execution.backends.outputs import check_outputs, dump_outputs
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import Intensity, PoolConfig
from dspex.modules import Majority
from dspex.testing import ScriptedModel
from dspex.testing.backends import BackendContract, answering

pytestmark = pytest.mark.bridge
FOLDER = Path(__file__).parent
POOL = PoolConfig(name="native", intensity=Intensity(restarts=50))


def program(name):
    sys.path.insert(0, str(FOLDER))
    try:
        two_steps = importlib.import_module("two_steps")
    finally:
        sys.path.remove(str(FOLDER))
    return getattr(two_steps, name)().to_program()


class TestIsolated(BackendContract):
    def make(self):
        return IsolatedBackend(pool=POOL)


@asynccontextmanager
async def open_isolated(**options):
    async with (
        asyncio.timeout(30),
        IsolatedBackend(code=CodeRoot(FOLDER), pool=POOL, **options) as backend,
    ):
        yield backend, RunContext(model=answering({"query": "q", "answer": 7, "sure": True}))


async def test_code_of_a_user_runs_in_another_process_on_the_model_of_this_one():
    async with open_isolated() as (backend, context):
        handle = await backend.create_program(program("TwoSteps"))
        prediction = await backend.execute_program(handle, {"question": "?"}, context)
        assert (prediction.answer, prediction.sure, prediction.usage.calls) == (7, True, 2)
        where = await backend.create_program(program("Where"))
        assert (await backend.execute_program(where, {"question": "?"}, context)).pid != os.getpid()


async def test_what_a_program_answers_beyond_its_signature_is_kept_as_it_is_natively():
    async with open_isolated() as (backend, context):
        more, answers = program("More"), []
        for where in (NativeBackend(code=CodeRoot(FOLDER)), backend):
            handle = await where.create_program(more)
            answers.append(
                check_outputs(more, await where.execute_program(handle, {"question": "?"}, context))
            )
        assert answers[0] == answers[1] == {"answer": 7, "sources": ["a", {"b": 1.5}], "note": None}
        assert (
            dump_outputs(more, {**answers[0], "bad": "\ud83d", "nan": float("nan")})["nan"] == "NaN"
        )


async def test_code_that_crashes_or_hangs_harms_nobody_else():
    async with open_isolated(seconds=5.0) as (backend, context):
        crash, fine = [
            await backend.create_program(program(name)) for name in ("Crash", "TwoSteps")
        ]
        with pytest.raises(WorkerLostError):
            await backend.execute_program(crash, {"question": "die"}, context)
        assert (await backend.execute_program(fine, {"question": "?"}, context)).answer == 7
        with pytest.raises(WorkerTimeoutError):
            await backend.execute_program(crash, {"question": "hang"}, context)
        assert (await backend.execute_program(fine, {"question": "?"}, context)).answer == 7


async def test_the_error_of_the_model_is_the_error_of_the_run():
    async with open_isolated() as (backend, _context):
        handle, error = (
            await backend.create_program(program("TwoSteps")),
            BudgetError("no money left"),
        )
        with pytest.raises(BudgetError) as caught:
            await backend.execute_program(
                handle, {"question": "?"}, RunContext(model=ScriptedModel(error))
            )
        assert caught.value is error


async def test_trace_and_stream_show_what_a_run_in_this_process_shows():
    async def shown(backend):
        model = answering({"query": "q", "answer": 7, "sure": True}, capabilities=["streaming"])
        handle, events = await backend.create_program(program("TwoSteps")), []

        async def emit(event):
            events.append(event)

        prediction = await backend.execute_program(
            handle, {"question": "?"}, RunContext(model=model).listening(emit=emit)
        )
        spans = prediction.trace.spans
        names = {
            span.span_id: (span.kind, span.name, span.path)
            for span in spans
            if span.kind != "backend"
        }
        return events, sorted(
            (*names[s.span_id], names.get(s.parent_id)) for s in spans if s.span_id in names
        )

    async with open_isolated() as (backend, _context):
        events, spans = await shown(backend)
        expected_events, expected_spans = await shown(NativeBackend(code=CodeRoot(FOLDER)))
        assert spans == expected_spans
        assert events == expected_events
        assert {type(event).__name__ for event in events} == {"Status", "FieldDelta"}


async def test_numbers_that_json_does_not_have_are_errors_and_never_nothing():
    async with open_isolated() as (backend, context):
        handle = await backend.create_program(program("Endless"))
        with pytest.raises(ExecutionError, match=r"answer\[0\]: inf"):
            await backend.execute_program(handle, {"question": "?"}, context)
        with pytest.raises(InputError, match=r"question\.a\[0\]: nan"):
            await backend.execute_program(handle, {"question": {"a": [float("nan")]}}, context)


async def test_a_model_that_fails_is_a_failed_attempt_as_it_is_natively():
    async with open_isolated() as (backend, _context):
        vote = Majority(Predict("question -> answer"), n=3).to_program("vote")
        for where in (NativeBackend(), backend):
            model = ScriptedModel(
                lambda request: (
                    ModelUnavailableError("away")
                    if request.rollout == 0
                    else "[[ ## answer ## ]]\n7"
                )
            )
            handle = await where.create_program(vote)
            context = RunContext(model=model)
            assert (await where.execute_program(handle, {"question": "?"}, context)).answer == "7"


async def test_questions_of_a_worker_are_answered_here_or_end_the_run():
    async with open_isolated() as (backend, _context):
        handle = await backend.create_program(program("Asking"))
        questions = []

        def answer(question):
            questions.append(question)
            return {"sure": "yes"}

        context = RunContext(answer=answer)
        prediction = await backend.execute_program(handle, {"question": "?"}, context)
        assert prediction.answer == "True"
        assert [question.inputs for question in questions] == [{"text": "?"}]
        assert [span.kind for span in prediction.trace.spans][:2] == ["question", "module"]
        with pytest.raises(WaitingForAnswerError) as caught:
            await backend.execute_program(handle, {"question": "?"}, RunContext())
        assert caught.value.question.inputs == {"text": "?"}
        wrong = RunContext(answer=lambda _question: {"sure": "perhaps"})
        with pytest.raises(WaitingForAnswerError, match="perhaps"):
            await backend.execute_program(handle, {"question": "?"}, wrong)
