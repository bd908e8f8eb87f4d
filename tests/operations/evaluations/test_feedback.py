"""Feedback on executions, and the metric, the data set and the queue that follow from it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from dspex.bootstrap import Services, open_services
from dspex.clock import SystemClock
from dspex.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from dspex.learning.statistics import mean_interval, wilson
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.evaluations.annotation_actions import (
    complete_annotation,
    queue_annotations,
    skip_annotation,
    take_annotation,
)
from dspex.operations.evaluations.feedback_actions import (
    create_feedback,
    dataset_from_feedback,
    feedback_link,
    feedback_scores,
)
from dspex.operations.evaluations.feedback_inputs import (
    AnnotationOf,
    CompleteAnnotation,
    CreateFeedback,
    DatasetFromFeedback,
    FeedbackLinkOf,
    FeedbackOf,
    FeedbackValues,
    QueueAnnotations,
    TakeAnnotation,
)
from dspex.operations.evaluations.feedback_links import LinkClaims, read_token
from dspex.operations.evaluations.feedback_records import ANNOTATION, FEEDBACK
from dspex.operations.evaluations.feedback_rows import feedback_by_link
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.records import EXECUTION
from dspex.operations.executions.retention import Retention
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Query, Update
from dspex.operations.programs.actions import ProgramRef, create_program, delete_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import (
    ArchiveWorkspace,
    CreateWorkspace,
    ReopenWorkspace,
    archive_workspace,
    create_workspace,
    reopen_workspace,
)
from dspex.operations.tenancy.usage import WORKSPACE_USAGE
from dspex.operations.tenancy.vault import Vault
from dspex.settings import Settings


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


class Desk:
    """A program with executions, and people who rate them."""

    def __init__(self, services: Services) -> None:
        self.operations: Operations = services.operations

    async def execution(self, question: str = "?", program: str = "qa") -> Any:
        request = ExecuteProgram(program=program, inputs={"question": question})
        return await self.operations.perform(execute_program, request)

    async def say(self, execution: Any, **values: Any) -> Any:
        request = CreateFeedback(execution_id=execution.id, **values)
        return await self.operations.perform(create_feedback, request)

    async def scores(self, program: str = "qa") -> list[Any]:
        request = FeedbackOf(program=program)
        return (await self.operations.perform(feedback_scores, request)).versions

    async def queue(self, reason: Any, **values: Any) -> Any:
        request = QueueAnnotations(program="qa", reason=reason, **values)
        return await self.operations.perform(queue_annotations, request)

    async def link(self, execution: Any) -> LinkClaims:
        request = FeedbackLinkOf(execution_id=execution.id)
        link = await self.operations.perform(feedback_link, request)
        claims = read_token(link.path.partition("link=")[2], self.operations.services[Vault])
        assert claims is not None
        return claims

    def annotator(self, name: str) -> Operations:
        scopes = frozenset({"execute"})
        return self.operations.as_actor(Actor(name=name, scopes=scopes))


@asynccontextmanager
async def desk(settings: Settings, **values: Any) -> AsyncIterator[Desk]:
    async with open_services(settings) as services:
        signature = "question -> answer, sure: bool"
        request = CreateProgram(name="qa", signature=signature, backend="mock", **values)
        await create_program(services.operations, request)
        yield Desk(services)


async def test_feedback_becomes_a_score_with_an_interval_over_executions(
    settings: Settings,
) -> None:
    async with desk(settings) as at:
        assert await at.scores() == []
        executions = [await at.execution(str(n)) for n in range(3)]
        first = await at.say(executions[0], score=1.0, label="right", comment="thanks")
        assert (first.source, first.actor, first.program_id) == (
            "key",
            "local",
            executions[0].program_id,
        )
        for execution, score in ((executions[1], 0.0), (executions[2], 1.0)):
            await at.say(execution, score=score)
        (version,) = await at.scores()
        interval = wilson(2, 3)
        assert version["interval"] == pytest.approx([interval.low, interval.high])
        assert (version["version"], version["executions"], version["labels"]) == (
            1,
            3,
            {"right": 1},
        )
        await at.say(executions[0], score=0.0)  # a second opinion is not a fourth execution
        (version,) = await at.scores()
        assert (version["executions"], version["mean"]) == (3, 0.5)
        interval = mean_interval([1.0, 0.0, 0.5])
        assert version["interval"] == pytest.approx([interval.low, interval.high], abs=0.3)


async def test_corrections_become_rows_with_the_expected_outputs(settings: Settings) -> None:
    async with desk(settings) as at:
        first, second, _ = [await at.execution(question) for question in "abc"]
        await at.say(first, correction={"answer": "A"})
        await at.say(second, correction={"answer": "wrong"})
        await at.say(second, correction={"answer": "B", "sure": True})
        request = DatasetFromFeedback(name="fixed", program="qa")
        data = await at.operations.perform(dataset_from_feedback, request)
        assert data.source == "feedback on qa"
        rows = {row["question"]: row for row in data.rows}
        assert rows["b"] == {"question": "b", "answer": "B", "sure": True}
        assert rows["a"] == {"question": "a", "answer": "A", "sure": first.outputs["sure"]}
        assert len(rows) == 2
        uncorrected = CreateProgram(name="other", signature="q -> a", backend="mock")
        await create_program(at.operations, uncorrected)
        request = DatasetFromFeedback(name="none", program="other")
        with pytest.raises(InvalidError, match="corrections"):
            await at.operations.perform(dataset_from_feedback, request)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "at least one"),
        ({"comment": ""}, "at least one"),
        ({"score": 1.5}, "from 0"),
        ({"score": float("nan")}, "from 0"),
        ({"label": "x" * 201}, "200 characters"),
        ({"comment": "x" * 10_001}, "10000 characters"),
        ({"comment": "a\0b"}, "U\\+0000"),
        ({"correction": {"anwser": "x"}}, "Did you mean 'answer'"),
        ({"correction": {"sure": [1]}}, "sure"),
        ({"correction": {"answer": "x" * 300_000}}, "bytes of JSON"),
    ],
)
async def test_what_does_not_fit_is_refused(
    tmp_path: Any, values: dict[str, Any], problem: str
) -> None:
    settings = Settings(state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")
    async with desk(settings) as at:
        execution = await at.execution()
        with pytest.raises(InvalidError, match=problem):
            await at.say(execution, **values)
        assert await at.operations.count(FEEDBACK, {}) == 0


async def test_feedback_needs_an_execution_that_has_ended(settings: Settings) -> None:
    async with desk(settings) as at:
        execution = await at.execution()
        change = Update(resource=EXECUTION, id=execution.id, values={"status": "running"})
        await at.operations.store.write(change)
        with pytest.raises(ConflictError, match="is running"):
            await at.say(execution, score=1.0)


async def test_feedback_by_a_link_replaces_what_the_same_link_said(settings: Settings) -> None:
    async with desk(settings) as at:
        execution = await at.execution()
        claims, second = await at.link(execution), await at.link(execution)

        async def use(link: LinkClaims, **values: Any) -> Any:
            return await feedback_by_link(at.operations, link, FeedbackValues(**values))

        await asyncio.gather(*(use(claims, score=n / 10) for n in range(5)))
        await use(claims, score=0.25, comment="better")
        (row,) = await at.operations.list(FEEDBACK, Query())
        assert (row.score, row.comment, row.source, row.actor) == (0.25, "better", "link", "link")
        await use(claims, label="final")
        (row,) = await at.operations.list(FEEDBACK, Query())
        assert (row.score, row.comment, row.label) == (None, None, "final")
        await use(second, score=1.0)
        assert await at.operations.count(FEEDBACK, {}) == 2


async def test_a_link_works_in_its_workspace_only(
    settings: Settings,
) -> None:
    async with desk(settings) as at:
        execution = await at.execution()
        claims = await at.link(execution)
        await at.operations.perform(create_workspace, CreateWorkspace(name="theirs"))
        values = FeedbackValues(score=1.0)
        for workspace in ("theirs", "nobody"):
            foreign = LinkClaims(
                workspace=workspace,
                execution_id=claims.execution_id,
                link_id=claims.link_id,
                expires_at=claims.expires_at,
            )
            with pytest.raises(NotFoundError, match="no execution for this link"):
                await feedback_by_link(at.operations, foreign, values)
        theirs = at.operations.as_actor(Actor(name="them", workspace="theirs"))
        with pytest.raises(NotFoundError):
            await theirs.perform(
                create_feedback, CreateFeedback(execution_id=execution.id, score=1.0)
            )
        reader = at.operations.as_actor(Actor(name="r", scopes=frozenset({"read"})))
        with pytest.raises(ForbiddenError, match="'execute'"):
            await reader.perform(
                create_feedback, CreateFeedback(execution_id=execution.id, score=1.0)
            )
        assert await at.operations.count(FEEDBACK, {}) == 0


async def test_a_link_ends_with_its_workspace_and_works_again_when_that_is_reopened(
    settings: Settings,
) -> None:
    async with desk(settings) as at:
        await at.operations.perform(create_workspace, CreateWorkspace(name="theirs"))
        theirs = at.operations.as_actor(Actor(name="them", workspace="theirs"))
        program = CreateProgram(name="qa", signature="question -> answer", backend="mock")
        await theirs.perform(create_program, program)
        call = ExecuteProgram(program="qa", inputs={"question": "?"})
        execution = await theirs.perform(execute_program, call)
        link = await theirs.perform(feedback_link, FeedbackLinkOf(execution_id=execution.id))
        token = link.path.partition("link=")[2]
        claims = read_token(token, at.operations.services[Vault])
        assert claims is not None
        values = FeedbackValues(score=1.0)
        await at.operations.perform(archive_workspace, ArchiveWorkspace(name="theirs"))
        with pytest.raises(NotFoundError, match="no execution for this link"):
            await feedback_by_link(at.operations, claims, values)
        await at.operations.perform(reopen_workspace, ReopenWorkspace(name="theirs"))
        row = await feedback_by_link(at.operations, claims, values)
        assert (row.workspace, row.link_id) == ("theirs", link.link_id)
        assert await theirs.count(FEEDBACK, {}) == 1
        assert await at.operations.count(FEEDBACK, {}) == 0


async def test_redaction_holds_for_feedback_and_the_audit_trail_holds_none_of_it(
    settings: Settings,
) -> None:
    redacting = dataclasses.replace(settings, redact_patterns=("secret",))
    async with desk(redacting) as at:
        execution = await at.execution()
        values = {"label": "secret", "comment": "a secret", "correction": {"answer": "secret b"}}
        row = await at.say(execution, **values)
        assert (row.label, row.comment) == ("(redacted)", "a (redacted)")
        assert row.correction == {"answer": "(redacted) b"}
        (entry,) = await at.operations.list(
            DOMAIN["audit_entry"], Query(where={"action": "create_feedback"})
        )
        assert (entry.resource_id, entry.after) == (execution.id, None)


class Later(SystemClock):
    """A clock that is forty days ahead."""

    def now(self) -> Any:
        return super().now() + timedelta(days=40)


async def test_feedback_and_annotations_go_with_their_execution(settings: Settings) -> None:
    async with desk(settings) as at:
        execution = await at.execution()
        correction = {"answer": "x" * 1000}
        await at.say(execution, correction=correction)
        await at.queue("sampled")
        dependencies = at.operations.dependencies
        await dependencies.quotas.flush()  # type: ignore[union-attr]

        async def stored() -> int:
            (usage,) = await dependencies.store.select(WORKSPACE_USAGE, Query())
            return int(usage.stored_bytes)

        before = await stored()
        retention = Retention(
            dependencies.store,
            lambda: dependencies.services[Figures],
            jobs=QUEUES.values(),
            parts=(FEEDBACK, ANNOTATION),
            clock=Later(),
            days=30,
        )
        assert await retention.tick() == 1
        for resource in (FEEDBACK, ANNOTATION):
            assert await at.operations.count(resource, {}) == 0
        assert before - await stored() > 1000
        await at.say(await at.execution(), score=1.0)
        await at.operations.perform(delete_program, ProgramRef(name="qa"))
        assert await at.operations.count(FEEDBACK, {}) == 0


async def test_many_annotators_never_get_the_same_execution(settings: Settings) -> None:
    async with desk(settings) as at:
        for n in range(12):
            await at.execution(str(n))
        queued = await at.queue("sampled", limit=10)
        assert (queued.added, queued.open) == (10, 10)
        assert (await at.queue("sampled", limit=100)).added == 2
        assert (await at.queue("sampled", limit=100)).added == 0

        async def take_all(name: str) -> list[Any]:
            tasks = []
            while True:
                try:
                    taken = await at.annotator(name).perform(take_annotation, TakeAnnotation())
                except NotFoundError:
                    return tasks
                tasks.append(taken.execution.id)

        taken = await asyncio.gather(*(take_all(f"person {n}") for n in range(4)))
        every = [key for keys in taken for key in keys]
        assert (len(every), len(set(every))) == (12, 12)


async def test_an_annotation_is_completed_by_whoever_has_it(settings: Settings) -> None:
    async with desk(settings) as at:
        for n in range(2):
            await at.execution(str(n))
        await at.queue("sampled")
        mine, yours = at.annotator("me"), at.annotator("you")
        task = await mine.perform(take_annotation, TakeAnnotation(program="qa"))
        key = task.annotation.id
        with pytest.raises(ConflictError, match="taken by 'me'"):
            await yours.perform(
                complete_annotation, CompleteAnnotation(annotation_id=key, score=1.0)
            )
        with pytest.raises(InvalidError, match="at least one"):
            await mine.perform(complete_annotation, CompleteAnnotation(annotation_id=key))
        request = CompleteAnnotation(annotation_id=key, score=0.0, correction={"answer": "x"})
        feedback = await mine.perform(complete_annotation, request)
        assert (feedback.source, feedback.actor) == ("annotation", "me")
        row = await at.operations.row(ANNOTATION, key)
        assert (row.status, row.feedback_id) == ("completed", feedback.id)
        with pytest.raises(ConflictError, match="is completed"):
            await mine.perform(complete_annotation, request)
        second = await yours.perform(take_annotation, TakeAnnotation())
        skipped = await yours.perform(
            skip_annotation, AnnotationOf(annotation_id=second.annotation.id)
        )
        assert skipped.status == "skipped"
        with pytest.raises(NotFoundError, match="no execution waits"):
            await mine.perform(take_annotation, TakeAnnotation())


async def test_what_was_taken_and_left_can_be_taken_again(settings: Settings) -> None:
    async with desk(settings) as at:
        await at.execution()
        await at.queue("sampled")
        task = await at.annotator("me").perform(take_annotation, TakeAnnotation())
        past = at.operations.clock.now() - timedelta(seconds=1)
        change = Update(resource=ANNOTATION, id=task.annotation.id, values={"taken_until": past})
        await at.operations.store.write(change)
        again = await at.annotator("you").perform(take_annotation, TakeAnnotation())
        assert again.annotation.id == task.annotation.id
        request = CompleteAnnotation(annotation_id=task.annotation.id, score=1.0)
        with pytest.raises(ConflictError, match="taken by 'you'"):
            await at.annotator("me").perform(complete_annotation, request)


async def test_failed_and_low_scored_executions_are_queued(settings: Settings) -> None:
    async with desk(settings) as at:
        low, high, failed = [await at.execution(str(n)) for n in range(3)]
        await at.say(low, score=0.2)
        await at.say(low, score=0.1)
        await at.say(high, score=0.5)
        change = Update(resource=EXECUTION, id=failed.id, values={"status": "failed"})
        await at.operations.store.write(change)
        assert (await at.queue("low_scored")).added == 1
        assert (await at.queue("failed")).added == 1
        rows = await at.operations.list(ANNOTATION, Query(oldest_first=True))
        assert [(row.execution_id, row.reason) for row in rows] == [
            (low.id, "low_scored"),
            (failed.id, "failed"),
        ]
