"""A custom domain, named once in dspex.toml.

The command line and the server both take it from there.
"""

import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex.surfaces.cli import main
from tests.support.waiting import Child

pytestmark = pytest.mark.full
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_resource" / "tickets.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "dspex.toml").write_text('domain = "tickets:DOMAIN"\n')
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))
    sys.modules.pop("tickets", None)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as result:
        main(list(arguments))
    output = capsys.readouterr()
    return int(result.value.code or 0), output.out or output.err


def test_do_and_list_know_what_the_domain_of_the_configuration_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for title in ("b", "a", "c"):
        code, out = call(capsys, "do", "open_ticket", f"title={title}")
        assert code == 0, out
        data = json.loads(out)
        assert (data["title"], data["status"], "workspace" in data) == (title, "open", False)
    assert "open_ticket" in call(capsys, "do")[1]
    assert (
        json.loads(call(capsys, "do", "close_ticket", f"id={data['id']}")[1])["status"] == "closed"
    )
    assert (
        "close needs it to be open or answered"
        in call(capsys, "do", "close_ticket", f"id={data['id']}")[1]
    )

    def listed(*arguments: str) -> Any:
        return json.loads(call(capsys, "ticket", "list", *arguments, "--json")[1])

    first = listed("--sort", "-title", "--limit", "2")
    rest = listed("--sort", "-title", "--after", first["next"])
    assert [row["title"] for row in (*first["tickets"], *rest["tickets"])] == ["c", "b", "a"]
    assert [
        row["title"]
        for row in listed(*(f"--where={f}" for f in ("status=open", "title_in=a", "title_in=c")))[
            "tickets"
        ]
    ] == ["a"]
    assert "Did you mean 'ticket'" in call(capsys, "tickets", "list")[1]
    for wrong, type_name in ((["--where", "colour=1"], "colour: "), (["--sort", "id"], "sort: ")):
        code, out = call(capsys, "ticket", "list", *wrong)
        assert (code, type_name in out) == (1, True), out


def test_a_shell_completes_nouns_verbs_and_actions_of_the_domain(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_DSPEX_COMPLETE", "bash_complete")
    for words, place, completions in (
        ("dspex tick", 1, ["plain,ticket"]),
        ("dspex docum", 1, ["plain,document", "plain,document-version"]),
        ("dspex ticket o", 2, ["plain,open"]),
        ("dspex do open_", 2, ["plain,open_ticket"]),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(place))
        code, out = call(capsys)
        assert (code, out.split()) == (0, completions), words


def test_a_configuration_that_names_no_domain_is_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dspex.toml").write_text('domain = "tickets:TICKET"\n')
    for arguments in (["do"], ["ticket", "list"]):
        code, out = call(capsys, *arguments)
        assert (code, "the domain 'tickets:TICKET' must be the result of" in out) == (1, True), out


def test_the_server_shows_what_the_command_line_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for title in ("one", "two"):
        assert call(capsys, "do", "open_ticket", f"title={title}")[0] == 0
    with Child([sys.executable, "-m", "dspex", "serve", "--port", "0"], cwd=folder) as child:
        match = re.search(r"http://[\d.:]+", child.wait_for_line("serving http"))
        assert match is not None

        def get(path: str, body: Any = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(
                match[0] + path, data, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        assert [row["title"] for row in get("/v1/tickets?sort=-title")["tickets"]] == ["two", "one"]
        query = (
            '{ tickets(order: TITLE_ASC, filter: {titleContains: "o"}) { nodes { title status } } }'
        )
        assert get("/graphql", {"query": query})["data"]["tickets"]["nodes"] == [
            {"title": "one", "status": "OPEN"},
            {"title": "two", "status": "OPEN"},
        ]
        assert get("/v1/actions/open_ticket", {"title": "three"})["status"] == "open"
        child.stop()
    assert [
        row["title"] for row in json.loads(call(capsys, "ticket", "list", "--json")[1])["tickets"]
    ] == [
        "three",
        "two",
        "one",
    ]
