"""A started server, asked over HTTP, beside the command line on the same folder."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import axe_source, chromium, without_chromium
from tests.support.command_server import run_dspex
from tests.support.waiting import Child

pytestmark = pytest.mark.full
LOADED = """
while (document.body.innerText.includes("loading ...")) {
  await new Promise((again) => setTimeout(again, 20));
}
"""
PROGRAM = (
    'import dspex\n\n@dspex.program\ndef shout(text: str) -> str:\n    """Shout."""\n    return '
    "text.upper()\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, Child]]:
    (tmp_path / "app.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "dspex", "serve", "--port", "0"]
    with Child(command, cwd=tmp_path) as child:
        line = child.wait_for_line("serving http")
        match = re.search(r"http://[\d.:]+", line)
        assert match is not None
        yield match[0], tmp_path, child


def ask(url: str, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def dspex(folder: Path, *arguments: str) -> Any:
    process = run_dspex(folder, *arguments, "--json")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_server_and_the_command_line_share_one_folder(server: tuple[str, Path, Child]) -> None:
    url, folder, _ = server
    dspex(folder, "run", "app.py:shout", "text=from the shell")
    mutation = (
        "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { status outputs } "
        "}"
    )
    answer = ask(url, mutation, input={"program": "shout", "inputs": {"text": "from the net"}})
    assert answer["data"]["executeProgram"] == {
        "status": "COMPLETED",
        "outputs": {"result": "FROM THE NET"},
    }
    response = ask(url, "{ executions { totalCount nodes { outputs } } }")["data"]["executions"]
    assert [row["outputs"]["result"] for row in response["nodes"]] == [
        "FROM THE NET",
        "FROM THE SHELL",
    ]
    assert len(dspex(folder, "execution", "list")["executions"]) == 2


def test_pages_of_other_sites_are_not_answered(server: tuple[str, Path, Child]) -> None:
    url, _, _ = server
    request = urllib.request.Request(f"{url}/healthz", headers={"host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value:
        assert caught.value.code == 400
    form = urllib.request.Request(
        f"{url}/graphql", b'{"query": "{ __typename }"}', {"content-type": "text/plain"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(form, timeout=30)
    caught.value.close()


@pytest.mark.parametrize(
    ("path", "title"), [("/explorer", "dspex explorer"), ("/docs", "dspex REST API")]
)
def test_a_page_needs_nothing_from_elsewhere(
    server: tuple[str, Path, Child], path: str, title: str
) -> None:
    url, _, _ = server
    with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
        page = answer.read().decode()
    assert title in page
    assert not re.findall(r"""(?:src|href)=["']?https?:""", page)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/explorer", ["executeProgram(input: ExecuteProgramInput!): Execution"]),
        (
            "/docs#execute_shout",
            ["/v1/programs/shout/execute", "Run the program 'shout' once.", "result: string"],
        ),
    ],
)
def test_a_page_shows_the_api_in_a_browser(
    server: tuple[str, Path, Child], tmp_path: Path, path: str, parts: list[str]
) -> None:
    url, folder, _ = server
    dspex(folder, "run", "app.py:shout", "text=x")
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-sync"
    )
    command = ["chromium", *options.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"{url}{path}"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [part for part in parts if part not in process.stdout] == []


@pytest.mark.slow
@without_chromium
@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("path", ["/explorer", "/docs", "/feedback"])
def test_axe_finds_no_violations_in_the_pages_of_the_server(
    server: tuple[str, Path, Child],
    tmp_path_factory: pytest.TempPathFactory,
    path: str,
    is_dark: bool,
) -> None:
    url, folder, _ = server
    axe = axe_source(tmp_path_factory.getbasetemp())
    dspex(folder, "run", "app.py:shout", "text=x")
    with chromium(folder) as browser:
        for width in (1280, 390):
            browser.open(f"{url}{path}", width=width, is_dark=is_dark)
            browser.run(LOADED)
            assert browser.violations(axe) == []
            scroll, size = browser.run("return [document.body.scrollWidth, innerWidth];")
            assert scroll <= size


@pytest.mark.slow
@without_chromium
def test_an_end_user_sends_feedback_from_the_page_of_a_link(
    server: tuple[str, Path, Child],
) -> None:
    url, folder, _ = server
    execution = dspex(folder, "run", "app.py:shout", "text=x")["id"]
    path = dspex(folder, "feedback", "link", execution)["path"]
    send = """
    document.querySelector(`input[value="${arguments[0]}"]`).click();
    document.getElementById("comment").value = arguments[1];
    document.querySelector("button").click();
    const result = document.getElementById("result");
    while (!/Thank|link/.test(result.textContent)) await new Promise(go => setTimeout(go, 20));
    return result.textContent;
    """
    script = "return await (async function() {%s})(%s, %s);"  # the body of an async function
    with chromium(folder) as browser:
        browser.open(f"{url}{path}")
        for score, comment in (("0", "too loud"), ("1", "loud enough")):
            text = browser.run(script % (send, json.dumps(score), json.dumps(comment)))
            assert text == "Thank you. Send again to change it."
        browser.open(f"{url}{path}x")
        text = browser.run(script % (send, '"1"', '""'))
        assert text == "this link is not valid, or has expired"
    (row,) = dspex(folder, "feedback", "list")["feedbacks"]
    assert (row["score"], row["comment"], row["source"]) == (1.0, "loud enough", "link")


def test_an_interrupted_server_ends_clean(server: tuple[str, Path, Child]) -> None:
    url, _, child = server
    ask(url, "{ __typename }")
    child.process.send_signal(signal.SIGINT)
    child.process.wait(30)
    assert not [line for line in child.seen if "Traceback" in line]


def test_a_taken_port_is_one_clear_message(server: tuple[str, Path, Child]) -> None:
    url, folder, _ = server
    command = [sys.executable, "-m", "dspex", "serve", "--port", url.rpartition(":")[2]]
    process = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 1
    assert "choose another port" in process.stderr
