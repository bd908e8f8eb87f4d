"""`dspex collection`: files become documents that are searched, in one process."""

import json
from pathlib import Path

import pytest

from dspex.surfaces.cli import main

pytestmark = pytest.mark.full


def run(*arguments: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    assert exit_info.value.code == code


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "returns.md").write_text("A lamp can be returned within 30 days.")
    (tmp_path / "handbook" / "delivery.md").write_text("Deliveries take three days.")
    return tmp_path


def test_files_are_added_searched_replaced_and_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("collection", "create", "handbook", "--embedder", "hash")
    (folder / "handbook" / "empty.md").write_text(" ")
    run("collection", "add", "handbook", "handbook", "nothing/*.md", code=1)
    captured = capsys.readouterr()
    assert "2 documents: 0 unchanged, 2 chunks stored, 2 embedded" in captured.out
    assert "empty.md: it has no text" in captured.err
    assert "nothing/*.md: there is no such file" in captured.err
    run("collection", "search", "handbook", "return a lamp", "--limit", "1", "--json")
    (passage,) = json.loads(capsys.readouterr().out)["passages"]
    assert passage["document"] == "handbook/returns.md"
    (folder / "handbook" / "delivery.md").write_text("Deliveries of lamps take four days.")
    run("collection", "add", "handbook", "handbook/*s.md", "handbook/delivery.md")
    assert "2 documents: 1 unchanged, 1 chunk stored, 1 embedded" in capsys.readouterr().out
    run("collection", "rebuild", "handbook", "--embedder", "none", "--json")
    (job,) = json.loads(capsys.readouterr().out)
    assert (job["operation"], job["status"], job["chunks"]) == ("rebuild", "completed", 2)
    run("collection", "search", "handbook", "lamps", "--mode", "lexical")
    assert "four days" in capsys.readouterr().out
    run("collection", "remove", "handbook", "handbook/delivery.md")
    run("collection", "search", "handbook", "lamps", "--mode", "lexical")
    assert "1 document deleted; handbook has 1 document" in (output := capsys.readouterr()).out
    assert "four days" not in output.out
    run("collection", "remove", "handbook", "handbook/delivery.md", code=1)
    output = capsys.readouterr()
    assert "0 documents deleted; handbook has 1 document" in output.out
    assert "there is no document 'handbook/delivery.md'" in output.err
    run("collection", "delete", "handbook")
    run("collection", "search", "handbook", "lamps", code=1)
    assert "there is no collection 'handbook'" in capsys.readouterr().err


def test_conditions_are_written_as_in_every_list_or_as_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"key": f"k{year}", "text": "lamps", "year": year, "topic": "shop"}
        for year in (2019, 2020, 2021)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run("collection", "create", "years", "--embedder", "none")
    run("collection", "add", "years", "rows.jsonl")
    for conditions, keys in (
        (["year_gte=2020", "topic=shop"], {"k2020", "k2021"}),
        (["year_in=2019,2021"], {"k2019", "k2021"}),
        (["year_in=2019", "year_in=2020"], {"k2019", "k2020"}),
        (['{"year": {"lt": 2020}}'], {"k2019"}),
        (["topic=office"], set()),
    ):
        options = [part for text in conditions for part in ("--where", text)]
        capsys.readouterr()
        run("collection", "search", "years", "lamps", "--mode", "lexical", "--json", *options)
        passages = json.loads(capsys.readouterr().out)["passages"]
        assert {passage["document"] for passage in passages} == keys
    run("collection", "search", "years", "lamps", "--where", "year", code=1)
    assert "--where takes FILTER=VALUE, such as year_gte=2020" in capsys.readouterr().err


def test_chunking_is_a_method_json_or_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "chunks.json").write_text('{"method": "sentences", "tokens": 100}')
    forms = {
        "c0": ("markdown", "markdown", 200),
        "c1": ('{"tokens": 50}', "recursive", 50),
        "c2": ("@chunks.json", "sentences", 100),
    }
    for name, (text, method, tokens) in forms.items():
        options = ("--embedder", "none", "--chunking", text)
        run("collection", "create", name, "--json", *options)
        chunking = json.loads(capsys.readouterr().out)["chunking"]
        assert (chunking["method"], chunking["tokens"]) == (method, tokens)
    run("collection", "rebuild", "c0", "--chunking", "sentences")
    run("collection", "show", "c0", "--json")
    output = capsys.readouterr().out
    assert '"sentences"' in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chunking", "{bad"], "--chunking: '{bad' is not JSON"),
        (["--chunking", "markdwn"], "methods are: recursive, sentences, markdown, code. Did you"),
        (["--chunking", "@nothing.json"], "cannot read 'nothing.json'"),
        (["--language", "xx"], "'xx' is not one of da, de"),
        (["--embedder", "offlin"], "Did you mean 'offline'?"),
    ],
)
def test_a_wrong_setting_of_a_new_collection_names_what_is_right(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("collection", "create", "handbook", *options, code=1)
    assert message in capsys.readouterr().err


def test_a_failed_ingestion_says_how_to_continue_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "long.md").write_text("lamp and chair " * 400)
    run("collection", "create", "handbook", "--chunking", '{"tokens": 2000}')
    run("collection", "add", "handbook", "long.md", code=1)
    error = capsys.readouterr().err
    assert "510" in error
    job = error.partition("`dspex job cancel ")[2].partition("`")[0]
    assert f"`dspex job resume {job}` continues it" in error
    run("job", "cancel", job)
    assert "cancelled" in capsys.readouterr().out
