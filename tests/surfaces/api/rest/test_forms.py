"""Files in forms: an upload becomes a picture, recording or file of the program."""

import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.execution.clients.modalities import MODALITIES
from dspex.language.records.message import ImagePart, MediaPart
from dspex.operations.executions.executor import Executor
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.forms import execute_form
from dspex.testing import ScriptedModel
from tests.support.pictures import pdf, png
from tests.surfaces.api.client import Server, serving
from tests.surfaces.api.connections.wire import wired

SIGNATURE = "photo: Image, papers: list[File]?, q: str, k: int? -> a: str"
PATH = "/v1/programs/look/execute"
REPLY = "[[ ## a ## ]]\nyes"


@contextlib.asynccontextmanager
async def looking(folder: Path, **config: Any) -> AsyncIterator[tuple[Server, ScriptedModel]]:
    """Serve a program that takes pictures, with a model that does."""
    model = ScriptedModel(REPLY, capabilities=MODALITIES)
    async with serving(folder, ServerConfig(**config)) as server:
        await create_program(
            server.services.operations, CreateProgram(name="look", signature=SIGNATURE)
        )
        executor = server.services.operations.services[Executor]
        provide = executor.context_provider

        async def provide_model(workspace: str, context: Any) -> Any:
            return msgspec.structs.replace(await provide(workspace, context), model=model)

        executor.context_provider = provide_model
        yield server, model


def form(*parts: tuple[str, bytes, str], boundary: str = "xyz") -> bytes:
    """Return a form; the third item of a part is the rest of its headers."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{rest}\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data, rest in parts
    )
    return body + f"--{boundary}--\r\n".encode()


async def test_files_of_a_real_client_become_parts(tmp_path: Path) -> None:
    async with looking(tmp_path) as (server, model):
        data = aiohttp.FormData()
        data.add_field("photo", png(5, 5), filename="ünï.png", content_type="image/png")
        data.add_field("papers", pdf(), filename="a.pdf")
        data.add_field("papers", b"text", filename="b.txt", content_type="text/plain")
        data.add_field("q", "what? ü")
        data.add_field("k", "4")
        data.add_field("timeout", "30")
        async with (
            wired(app=server.app) as wire,
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{wire.port}{PATH}", data=data) as response,
        ):
            row = await response.json()
        assert (response.status, row["outputs"]) == (200, {"a": "yes"}), row
        message = model.requests[0].messages[-1]
        parts = [part for part in message.content if isinstance(part, MediaPart)]
        assert [part.media_type for part in parts] == ["image/png", "application/pdf", "text/plain"]
        assert [part.data for part in parts] == [png(5, 5), pdf(), b"text"]
        assert "what? ü" in message.text
        assert "[[ ## k ## ]]\n4" in message.text


async def test_a_stored_execution_holds_the_hash_and_cannot_be_retried(tmp_path: Path) -> None:
    picture = png(300, 300) + bytes(2000)
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    async with looking(tmp_path) as (server, model):
        body = {"inputs": {"photo": url, "q": "?"}}
        row = (await server.ask("POST", PATH, body=body)).json
        assert model.requests[0].messages[-1].content[1] == ImagePart(
            media_type="image/png", data=picture
        )
        stored = (await server.ask("GET", f"/v1/executions/{row['id']}")).json
        text = json.dumps(stored)
        assert len(text) < 8000
        assert stored["inputs"]["photo"]["url"] == (
            f"{url[:86]}... ({len(picture)} bytes, sha256 {hashlib.sha256(picture).hexdigest()})"
        )
        assert stored["payloads"] == "redacted"
        again = {"inputs": {"photo": stored["inputs"]["photo"], "q": "?"}}
        answer = (await server.ask("POST", PATH, body=again)).json
        assert (answer["status"], answer["error"]["code"]) == ("failed", "media")
        assert "photo is not base64" in answer["error"]["message"]
        model.capabilities = frozenset()  # a run that fails, and whose inputs had a picture
        failed = (await server.ask("POST", PATH, body=body)).json
        assert "photo: 'scripted' does not take pictures" in failed["error"]["message"]
        retry = {"execution_id": failed["id"]}
        refusal = await server.ask("POST", "/v1/actions/retry_execution", body=retry)
        assert (refusal.status, refusal.json["error"]["type"]) == (409, "ConflictError")
        assert "are redacted" in refusal.json["error"]["message"]


async def test_graphql_takes_a_picture_as_a_data_uri(tmp_path: Path) -> None:
    query = """mutation($inputs: JSON!) {
      executeProgram(input: {program: "look", inputs: $inputs}) { status outputs }
    }"""
    url = f"data:image/png;base64,{base64.b64encode(png(5, 5)).decode()}"
    async with looking(tmp_path) as (server, model):
        for photo in (url, {"url": url}):
            answer = await server.graphql(query, inputs={"photo": photo, "q": "?"})
            assert answer["data"]["executeProgram"] == {
                "status": "COMPLETED",
                "outputs": {"a": "yes"},
            }
            content = model.requests[-1].messages[-1].content
            assert ImagePart(media_type="image/png", data=png(5, 5)) in content


async def test_small_inputs_are_stored_whole(tmp_path: Path) -> None:
    async with looking(tmp_path) as (server, _):
        body = {"inputs": {"photo": {"url": "https://example.org/a.png"}, "q": "?"}}
        row = (await server.ask("POST", PATH, body=body)).json
        assert row["payloads"] == "stored"
        assert row["inputs"]["photo"]["url"] == "https://example.org/a.png"


@pytest.mark.parametrize("path", ["/etc/passwd", "photo.png", "file:///etc/passwd"])
async def test_a_path_from_a_caller_is_never_read(tmp_path: Path, path: str) -> None:
    async with looking(tmp_path) as (server, model):
        for body in ({"inputs": {"photo": path, "q": "?"}}, form(("photo", path.encode(), ""))):
            kind = "application/json" if isinstance(body, dict) else "multipart/form-data"
            headers = {"content_type": f"{kind}; boundary=xyz"}
            answer = await server.ask("POST", PATH, body=body, **headers)
            assert answer.status == 422 or answer.json["status"] == "failed"
        assert model.requests == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "multipart/form-data; boundary=xyz", 400),
        (form(("q", b"?", "")), "multipart/form-data", 400),
        (form(("q", b"?", ""))[:-8], "multipart/form-data; boundary=xyz", 400),
        (form(("", b"?", "")), "multipart/form-data; boundary=xyz", 400),
        (form(("inputs", b"[1]", "")), "multipart/form-data; boundary=xyz", 422),
        (form(("inputs", b"{", "")), "multipart/form-data; boundary=xyz", 400),
        (form(("timeout", b'"x"', "")), "multipart/form-data; boundary=xyz", 422),
        (form(("q", b"\xff", "")), "multipart/form-data; boundary=xyz", 422),
        (form(("q", b"a\0b", "")), "multipart/form-data; boundary=xyz", 422),
        (form(("nope", b"?", "")), "multipart/form-data; boundary=xyz", 422),
        (form(("photo", b"<p>", '; filename="a.html"')), "multipart/form-data; boundary=xyz", 422),
        (
            form(("q", b"?", ""), ("inputs", b'{"q": "?"}', "")),
            "multipart/form-data; boundary=xyz",
            422,
        ),
        (form(*[("q", b"?", "")] * 300), "multipart/form-data; boundary=xyz", 413),
        (
            form(("photo", bytes(200_000), '; filename="a"')),
            "multipart/form-data; boundary=xyz",
            413,
        ),
    ],
)
async def test_a_wrong_form_is_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    async with looking(tmp_path, body_bytes=100_000) as (server, model):
        answer = await server.ask("POST", PATH, body=body, content_type=kind)
        assert answer.status == status, answer.body
        assert model.requests == []


async def test_a_form_of_another_site_is_refused(tmp_path: Path) -> None:
    async with looking(tmp_path) as (server, model):
        answer = await server.ask(
            "POST",
            PATH,
            body=form(("q", b"?", "")),
            content_type="multipart/form-data; boundary=xyz",
            origin="https://evil.example",
        )
        assert answer.status == 403
        assert model.requests == []


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8).filter(
            lambda name: name not in {"inputs", "timeout", "backend"}
        ),
        st.tuples(st.binary(max_size=80).filter(lambda data: b"--xyz" not in data), st.booleans()),
        max_size=4,
    )
)
def test_a_form_keeps_the_bytes_of_its_files(values: dict[str, tuple[bytes, bool]]) -> None:
    parts = [(name, data, '; filename="f.bin"') for name, (data, _) in values.items()]
    request = execute_form(form(*parts), b"multipart/form-data; boundary=xyz")
    urls = {name: value["url"] for name, value in request["inputs"].items()}
    decoded = {name: base64.b64decode(url.partition(";base64,")[2]) for name, url in urls.items()}
    assert decoded == {name: data for name, (data, _) in values.items()}
