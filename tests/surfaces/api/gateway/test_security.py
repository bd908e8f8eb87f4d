"""Who is let in, how often, and what no answer reveals."""

import asyncio
import base64
import hashlib
import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import ConflictError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.access import DEFAULT_WORKSPACE
from dspex.operations.framework.store import Query
from dspex.operations.tenancy.actions import (
    ArchiveWorkspace,
    CreateSecret,
    IssuedKey,
    RevokeApiKey,
    RotateApiKey,
    RotateSecret,
)
from dspex.surfaces.api import ServerConfig
from dspex.testing import FakeClock
from tests.surfaces.api.client import GUARDED, Server, serving

RUN = {"inputs": {"q": "?"}}


async def test_only_a_whole_and_active_key_is_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        right = await server.give_key("k", "read")
        assert (await server.ask("GET", "/v1/programs", key="k")).status == 200
        another = right[:-1] + ("A" if right[-1] != "A" else "B")
        for wrong in (
            None,
            "nonsense",
            another,
            right.upper(),
            "dspx_" + "0" * 32 + "_" + "x" * 43,
            right * 9,
        ):
            answer = await server.ask("GET", "/v1/programs", key=wrong)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert right not in answer.body.decode()


async def test_health_and_pages_need_no_key_and_everything_else_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("/healthz", "/readyz", "/explorer", "/docs", "/feedback", "/v1/openapi.json"):
            assert (await server.ask("GET", path)).status == 200
        for path in ("/metrics", "/v1/programs", "/v1/nothing", "/graphql", "/"):
            assert (await server.ask("GET", path)).status == (307 if path == "/" else 401)


async def test_a_rotated_revoked_or_expired_key_ends_within_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        old = await server.give_key("k", "read")
        await server.give_key("short", "read", expires_at=clock.now() + timedelta(seconds=90))
        assert await _status(server, old) == 200
        issued = await server.perform("rotate_api_key", RotateApiKey(name="k"))
        await clock.advance(1.1)
        assert (await _status(server, old), await _status(server, issued.key)) == (401, 200)
        await server.perform("revoke_api_key", RevokeApiKey(name="k"))
        await clock.advance(1.1)
        assert (await _status(server, issued.key), await _status(server, "short")) == (401, 200)
        await clock.advance(90)
        assert await _status(server, "short") == 401


async def test_the_keys_of_an_archived_workspace_end(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        await server.give_workspace("team")
        await server.give_key("k", "read", workspace="team")
        assert await _status(server, "k") == 200
        await server.perform("archive_workspace", ArchiveWorkspace(name="team"))
        await clock.advance(1.1)
        assert await _status(server, "k") == 401


async def _status(server: Server, key: str) -> int:
    return (await server.ask("GET", "/v1/programs", key=key)).status


async def test_calls_beyond_a_keys_rate_wait_as_long_as_the_answer_says(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        await server.give_key("k", "read", requests_per_minute=60)
        await server.give_key("other", "read")
        items = [await _status(server, "k") for _ in range(12)]
        assert items == [200] * 10 + [429] * 2  # a burst is a sixth of a minute's
        refused = await server.ask("GET", "/v1/programs", key="k")
        assert refused.json["error"]["retryable"] is True
        assert await _status(server, "other") == 200
        await clock.advance(int(refused.headers["retry-after"]))
        assert await _status(server, "k") == 200


async def test_a_key_has_only_so_many_calls_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.give_program()
        await server.give_key("k", "read", "execute", concurrency=2)
        started, gate = asyncio.Semaphore(0), asyncio.Event()
        mock = server.services.backends["mock"]
        answer = mock.execute_program

        async def held(*args: Any) -> Any:
            started.release()
            await gate.wait()
            return await answer(*args)

        mock.execute_program = held  # type: ignore[method-assign, assignment]
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(server.ask("POST", "/v1/programs/n/execute", key="k", body=RUN))
                for _ in range(2)
            ]
            for _ in running:
                await started.acquire()
            assert await _status(server, "k") == 429
            gate.set()
        assert [(await task).status for task in running] == [200, 200]
        assert await _status(server, "k") == 200


async def test_keys_of_another_workspace_are_rotated_and_ended_by_operators_alone(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        await server.give_workspace("team")
        await server.give_key("boss", "admin")
        await server.give_key("chief", "admin", workspace="team")
        await server.give_key("leaked", "execute", workspace="team")

        async def act(verb: str, key: str, **values: str) -> tuple[int, str]:
            answer = await server.ask("POST", f"/v1/actions/{verb}_api_key", key=key, body=values)
            return answer.status, answer.json.get("error", {}).get("message", "")

        assert await act("revoke", "boss", name="leaked") == (
            404,
            "there is no api key 'leaked' in the workspace 'default'; there is one in the "
            "workspace 'team'",
        )
        assert (await act("revoke", "chief", name="boss"))[
            1
        ] == "there is no api key 'boss' in the workspace 'team'"
        assert (await act("revoke", "chief", name="boss", workspace="default"))[0] == 403
        assert (await act("rotate", "boss", name="chief", workspace="team"))[0] == 200
        await server.perform("archive_workspace", ArchiveWorkspace(name="team"))
        assert (await act("revoke", "boss", name="leaked", workspace="team"))[0] == 200


async def test_guesses_are_limited_and_lock_out_no_good_key_of_the_same_address(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, clock=FakeClock()) as server:
        names = ("first", "second", "third")
        for name in names:
            await server.give_key(name, "read")
        assert {await _status(server, f"dspx_{n:032x}_x") for n in range(20)} == {401, 429}
        # none of them was seen before
        assert {await _status(server, name) for name in names * 20} == {200}
        assert await _status(server, f"dspx_{0:032x}_x") == 429
        forged = await server.ask(
            "GET", "/v1/programs", key=f"dspx_{0:032x}_x", x_forwarded_for="10.0.0.1"
        )
        assert forged.status == 429


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": "127.0.0.1.evil.example:80"}, 400),
        ({"host": "localhost:8123"}, 200),
        ({"host": "[::1]:8123"}, 200),
        ({"host": "api.example:443"}, 200),
        ({"host": "localhost:80@evil"}, 400),
        ({"host": "localhost:80:80"}, 400),
        ({"host": "[::1]evil"}, 400),
        ({"host": "[::1"}, 400),
        ({"host": "localhost/evil"}, 400),
        ({"host": "localhost "}, 400),
        ({"host": ""}, 400),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://127.0.0.1:8123", "host": "127.0.0.1:8123"}, 200),
        ({"origin": "http://127.0.0.1:9999", "host": "127.0.0.1:8123"}, 403),
        ({"origin": "https://API.example", "host": "api.example"}, 200),
        ({"origin": "https://api.example", "host": "api.example:443"}, 200),
        ({"origin": "http://api.example", "host": "api.example:443"}, 403),
        ({"origin": "https://api.example", "host": "127.0.0.1"}, 403),
        ({"origin": "http://127.0.0.1@evil.example"}, 403),
        ({"origin": "file://127.0.0.1"}, 403),
        ({"origin": "http://[127.0.0.1"}, 403),
        ({"content_length": "99999999"}, 413),
    ],
)
async def test_hosts_origins_and_sizes_are_checked_first(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with serving(tmp_path, ServerConfig(hosts=frozenset({"api.example"}))) as server:
        assert (await server.ask("GET", "/v1/programs", **headers)).status == status


async def test_every_answer_tells_browsers_not_to_frame_sniff_or_run_anything(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        answers = [
            ("GET", path)
            for path in ("/", "/explorer", "/docs", "/healthz", "/v1/programs", "/v1/nothing")
        ]
        for method, path in (*answers, ("PUT", "/graphql"), ("POST", "/graphql")):
            headers = (await server.ask(method, path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["x-frame-options"] == "DENY", path
            policy = headers["content-security-policy"]
            assert ("default-src 'none'" in policy, "frame-ancestors 'none'" in policy) == (
                True,
                True,
            ), path
            assert "unsafe" not in policy, path


@pytest.mark.parametrize("path", ["/explorer", "/docs", "/feedback"])
async def test_a_page_may_run_its_own_script_and_ask_its_own_server_only(
    tmp_path: Path, path: str
) -> None:
    async with serving(tmp_path) as server:
        answer = await server.ask("GET", path)
        policy = dict(
            part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
        )
        for tag, directive in (("script", "script-src"), ("style", "style-src")):
            block = answer.body.split(f"<{tag}>".encode())[1].split(f"</{tag}>".encode())[0]
            digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
            assert policy[directive] == f"'sha256-{digest}'"
        assert policy["connect-src"] == "'self'"
        page = answer.body.decode()
        # what the policy would stop
        assert not re.findall(r"\son[a-z]+=|style=|<script |<link", page)


async def test_a_header_that_decides_something_is_there_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.give_key("k", "read")
        scope = await server.ask("GET", "/v1/programs", key="k", pairs=[(b"host", b"evil.example")])
        assert (scope.status, scope.json["error"]["code"]) == (400, "headers")


async def test_a_body_that_a_page_of_another_site_can_send_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig(body_bytes=1000)) as server:
        body = b'{"query": "{ __typename }"}'
        wrong = (
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
            "application/jsonx",
            "application/json-seq",
        )
        for kind in (*wrong, "application/json/x", "text/plain; application/json"):
            assert (
                await server.ask("POST", "/graphql", body=body, content_type=kind)
            ).status == 415
        for kind in (
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON ;charset=utf-8",
        ):
            assert (
                await server.ask("POST", "/graphql", body=body, content_type=kind)
            ).status == 200
        long = await server.ask("POST", "/graphql", body=b" " * 1001, content_length="10")
        assert long.status == 413


async def test_what_takes_too_long_is_cancelled_and_recorded_so(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig(timeout_s=0.2)) as server:
        await server.give_program()

        async def stuck(*_args: Any) -> Any:
            await asyncio.Event().wait()

        server.services.backends["mock"].execute_program = stuck  # type: ignore[method-assign, assignment]
        answer = await server.ask("POST", "/v1/programs/n/execute", body=RUN)
        assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
        [row] = await server.services.operations.list(DOMAIN["execution"], Query())
        assert row.status == "cancelled"


async def test_the_trail_names_the_key_and_no_text_of_a_key_or_secret_is_shown_or_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path) as server:
        boss = await server.give_key("boss", "admin")
        response = await server.ask(
            "POST",
            "/v1/actions/create_api_key",
            key="boss",
            body={"name": "k", "scopes": ["read"]},
        )
        key = response.json["key"]
        for text, verb in (("hush-hush", "create"), ("hush-again", "rotate")):
            answer = await server.ask(
                "POST",
                f"/v1/actions/{verb}_secret",
                key="boss",
                body={"name": "S", "text": text},
            )
            assert answer.status == 200
        collected = ""
        for resource in DOMAIN.values():
            if not resource.is_internal:
                collected += (
                    await server.ask("GET", f"/v1/{resource.plural}", key="boss")
                ).body.decode()
        assert '"actor":"boss"' in collected
        assert '"name":"S"' in collected
        files = b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())
        for text in (boss, key, "hush-hush", "hush-again"):
            assert text not in collected + caplog.text
            assert text.encode() not in files


async def test_a_secret_is_read_back_only_with_the_key_and_the_place_that_sealed_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        await server.perform("create_secret", CreateSecret(name="A_API_KEY", text="first"))
        await server.perform("rotate_secret", RotateSecret(name="A_API_KEY", text="second"))
        (tmp_path / "held").write_text("third\n")
        await server.perform(
            "create_secret", CreateSecret(name="B_API_KEY", reference=f"file:{tmp_path}/held")
        )
        await server.perform(
            "create_secret", CreateSecret(name="C_API_KEY", reference="env:NOT_SET_ANYWHERE")
        )
    async with serving(tmp_path) as again:
        keys = again.services.context.models.settings.keys  # type: ignore[union-attr]
        assert keys["A_API_KEY"].reveal() == "second"
        assert keys["B_API_KEY"].reveal() == "third"
        assert "C_API_KEY" not in keys


async def test_of_two_who_rotate_a_key_at_once_nobody_gets_a_text_that_does_not_work(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        await server.give_key("k", "read")
        rotate = (server.perform("rotate_api_key", RotateApiKey(name="k")) for _ in range(3))
        results = await asyncio.gather(*rotate, return_exceptions=True)
        assert all(isinstance(each, (IssuedKey, ConflictError)) for each in results)
        [issued] = [each for each in results if not isinstance(each, BaseException)]
        assert await _status(server, issued.key) == 200


async def test_last_use_is_written_by_the_way_and_not_by_requests(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, GUARDED, clock=clock) as server:
        await server.give_key("k", "read")
        for _ in range(5):
            await _status(server, "k")
        [row] = await server.services.operations.list(DOMAIN["api_key"], Query())
        assert row.last_used_at is None
        await server.services.keys.flush()
        [row] = await server.services.operations.list(DOMAIN["api_key"], Query())
        assert row.last_used_at == clock.now()
        assert row.workspace == DEFAULT_WORKSPACE


async def test_only_admins_choose_a_model_by_url_or_path_and_nobody_names_code(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        await server.give_key("writer", "write")
        await server.give_key("boss", "admin")
        path = "/v1/actions/create_program"
        for model in ("http://inside.example/v1#m", "/etc/passwd.gguf"):
            body = {"name": "n", "signature": "q -> a", "configuration": {"model": model}}
            refused = await server.ask("POST", path, key="writer", body=body)
            assert (
                refused.status,
                "configuration.model" in refused.json["error"]["message"],
            ) == (403, True)
        assert (await server.ask("POST", path, key="boss", body=body)).status == 200
        prose = {
            "name": "p",
            "signature": "q -> a",
            "configuration": {"instructions": "Cite https://a.example"},
        }
        assert (await server.ask("POST", path, key="writer", body=prose)).status == 200
        for values in (
            {"module": "os:system"},
            {"module": "python"},
            {"configuration": {"target": "os:system"}},
        ):
            answer = await server.ask(
                "POST", path, key="boss", body={"name": "m", "signature": "q -> a", **values}
            )
            assert answer.status == 422
