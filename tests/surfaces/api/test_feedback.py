"""End users give feedback over a signed link; whatever else is sent there achieves nothing."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dspex.clock import SystemClock
from dspex.operations.evaluations.feedback_records import FEEDBACK
from dspex.operations.framework.store import Query
from dspex.surfaces.api import ServerConfig
from tests.surfaces.api.client import Server, serving

SHORTEST_S, WRONG_AT_ONCE = 60, 10


async def link_to(server: Server, **values: Any) -> str:
    """Execute a program with a key that may only execute, and return a link to its feedback."""
    await server.give_program("n")
    await server.give_key("app", "execute")
    call = await server.ask("POST", "/v1/programs/n/execute", key="app", body={"inputs": {"q": ""}})
    body = {"execution_id": call.json["id"], **values}
    answer = await server.ask("POST", "/v1/actions/feedback_link", key="app", body=body)
    assert answer.status == 200, answer.body
    path: str = answer.json["path"]
    return path


async def rows(server: Server) -> list[Any]:
    return list(await server.services.operations.list(FEEDBACK, Query()))


async def test_an_end_user_needs_only_the_link(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        page = await server.ask("GET", path)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert page.headers["referrer-policy"] == "no-referrer"
        for body in ({"score": 0}, {"score": 1, "comment": "right after all"}):
            answer = await server.ask("POST", path, body=body)
            assert answer.status == 200
            empty = dict.fromkeys(("score", "label", "correction", "comment"))
            assert answer.json == {**empty, **body}
        (row,) = await rows(server)
        assert (row.score, row.comment, row.source) == (1.0, "right after all", "link")


async def test_a_link_opens_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        token = path.partition("link=")[2]
        for method, place in (
            ("GET", "/v1/feedbacks"),
            ("GET", "/v1/executions"),
            ("POST", "/v1/actions/create_feedback"),
        ):
            target = f"{place}?link={token}"
            assert (await server.ask(method, target, body={})).status == 401
            assert (await server.ask(method, place, key=token, body={})).status == 401
        assert (await server.ask("DELETE", path)).status == 405


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 401),
        ("?link=", 401),
        ("?link={token}&link={token}", 401),
        ("?link={token}&workspace=other", 401),
        ("?token={token}", 401),
        ("?link={token}x", 401),
        ("?link=x{token}", 401),
        ("?link={swapped}", 401),
        ("?link=%00", 401),
        ("?link=%ff%fe", 401),
    ],
)
async def test_a_wrong_link_is_refused(tmp_path: Path, query: str, status: int) -> None:
    async with serving(tmp_path) as server:
        token = (await link_to(server)).partition("link=")[2]
        path = "/feedback" + query.format(token=token, swapped=token.swapcase())
        answer = await server.ask("POST", path, body={"score": 1})
        assert (answer.status, answer.json["error"]["code"]) == (status, "unauthenticated")
        assert token not in str(answer.json)
        assert await rows(server) == []


async def test_a_server_without_keys_checks_links_too(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        assert (await server.ask("POST", "/feedback?link=x", body={"score": 1})).status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"score": 2}, 422),
        ({"score": "1"}, 422),
        ({"score": 1, "execution_id": "01a204e7-d265-770f-a3da-97f8004ff7a9"}, 422),
        ({"correction": {"nothing": 1}}, 422),
        ({"correction": {"n": "not a number"}}, 422),
        ({"comment": "x" * 1_000_000}, 413),
        (b"{", 400),
        (b"[]", 400),
    ],
)
async def test_what_a_link_says_is_checked(tmp_path: Path, body: Any, status: int) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        assert (await server.ask("POST", path, body=body)).status == status
        form = await server.ask("POST", path, body=b"score=1", content_type="text/plain")
        assert form.status == 415
        foreign = await server.ask("POST", path, body={"score": 1}, origin="https://evil.example")
        assert foreign.status == 403
        assert await rows(server) == []


class Ahead(SystemClock):
    """A clock that can be set forward."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.seconds)


async def test_a_link_expires(tmp_path: Path) -> None:
    clock = Ahead()
    async with serving(tmp_path, clock=clock) as server:
        path = await link_to(server, seconds=SHORTEST_S)
        assert (await server.ask("POST", path, body={"score": 1})).status == 200
        clock.seconds = SHORTEST_S
        answer = await server.ask("POST", path, body={"score": 0})
        assert (answer.status, "expired" in answer.json["error"]["message"]) == (401, True)
        assert [row.score for row in await rows(server)] == [1.0]
        for seconds in (0, 59, 91 * 86_400, float("1e308")):
            body = {"execution_id": str((await rows(server))[0].execution_id), "seconds": seconds}
            answer = await server.ask("POST", "/v1/actions/feedback_link", key="app", body=body)
            assert answer.status == 422


async def test_wrong_links_are_limited_and_lock_nobody_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        answers = [
            await server.ask("POST", f"/feedback?link=guess{n}", body={"score": 1})
            for n in range(WRONG_AT_ONCE + 5)
        ]
        assert [answer.status for answer in answers[:WRONG_AT_ONCE]] == [401] * WRONG_AT_ONCE
        assert answers[-1].status == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await server.ask("POST", path, body={"score": 1})).status == 200


async def test_one_link_cannot_flood_the_database(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        answers = await asyncio.gather(
            *(server.ask("POST", path, body={"score": 1}) for _ in range(50))
        )
        statuses = [answer.status for answer in answers]
        assert 429 in statuses
        assert set(statuses) <= {200, 429}
        assert len(await rows(server)) == 1


async def test_a_link_to_a_deleted_execution_finds_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = await link_to(server)
        await server.give_key("owner", "admin")
        deleted = await server.ask(
            "POST", "/v1/actions/delete_program", key="owner", body={"name": "n"}
        )
        assert deleted.status == 200, deleted.body
        answer = await server.ask("POST", path, body={"score": 1})
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


async def test_the_log_of_requests_does_not_hold_links(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dspex.requests")
    async with serving(tmp_path, ServerConfig(needs_key=True, logs_requests=True)) as server:
        path = await link_to(server)
        await server.ask("POST", path, body={"score": 1})
    assert "POST /feedback 200" in caplog.text
    assert path.partition("link=")[2] not in caplog.text
