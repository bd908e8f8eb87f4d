"""Readers of files: documents, and errors that name the file."""

import io
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from dspex.errors import DefinitionError
from dspex.execution.retrieval.html_text import html_text
from dspex.execution.retrieval.readers import (
    READERS,
    SourceDocument,
    parse_file,
    read_file,
    read_files,
)


def pdf_bytes(*pages: str) -> bytes:
    """Return a PDF with a line of text on each page."""
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(width=300, height=100)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode())
        names = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
        font = DictionaryObject({NameObject(k): NameObject(v) for k, v in names.items()})
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(stream)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_text_and_markdown_are_one_document_with_their_path_as_key(tmp_path: Path) -> None:
    path = tmp_path / "lamps.md"
    path.write_text("\ufeff# Lamps\n30 days.", encoding="utf-8")
    assert read_file(path) == [SourceDocument(key=path.as_posix(), text="# Lamps\n30 days.")]


def test_rows_of_a_table_are_documents() -> None:
    table = b"id,text,year\na,First.,2020\nb,Second.,2021\n"
    assert parse_file("rows.csv", table) == [
        SourceDocument(key="a", text="First.", metadata={"year": 2020}),
        SourceDocument(key="b", text="Second.", metadata={"year": 2021}),
    ]
    assert parse_file("rows.jsonl", b'{"name": "Lamp", "price": 3}\n') == [
        SourceDocument(
            key="rows.jsonl#1", text="name: Lamp\nprice: 3", metadata={"name": "Lamp", "price": 3}
        )
    ]


def test_columns_of_numbers_in_a_csv_are_numbers() -> None:
    table = b"id,year,price,code,mixed,empty\n1,2020,1.50,007,3,\n2,,-2,008,a,\n"
    first, second = parse_file("rows.csv", table)
    assert first.metadata == {"year": 2020, "price": 1.5, "code": "007", "mixed": "3", "empty": ""}
    assert second.metadata == {"price": -2, "code": "008", "mixed": "a", "empty": ""}
    assert first.text == "year: 2020\nprice: 1.50\ncode: 007\nmixed: 3\nempty: "


def test_a_page_has_its_visible_text_and_title() -> None:
    page = """<html><head><title>Shop &amp; Co</title><style>p {}</style></head><body>
      <h1>Returns</h1><p>You can return<br>a <b>lamp</b> &mdash; within
      30 days.</p><!-- hidden --><script>let a = "<p>no</p>"</script>
      <ul><li>One</li><li>Two</li></ul><table><tr><td>a</td><td>b</td></tr></table></body></html>"""
    title, text = html_text(page)
    assert title == "Shop & Co"
    assert text == (
        "# Returns\n\nYou can return\na lamp \u2014 within 30 days.\n\nOne\n\nTwo\n\na b"
    )


@pytest.mark.parametrize(
    "unit", ["<!--", "<a ", "</", "<![CDATA[", "<", "<div>", "&#", "<a b='", "<!", "<?", "</a "]
)
def test_hostile_pages_take_linear_time(unit: str) -> None:
    start = time.process_time()
    html_text(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 10


def test_the_pages_of_a_pdf_are_one_document() -> None:
    (document,) = parse_file("rules.pdf", pdf_bytes("First page", "Second page"))
    assert document.text == "First page\n\nSecond page"
    assert document.metadata == {"pages": 2}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", b"not a pdf", "a.pdf: this PDF cannot be read"),
        ("a.pdf", b"%PDF-1.7\n\x00\xff" * 50, "a.pdf: this PDF cannot be read"),
        ("a.pdf", pdf_bytes("text")[:-300], "a.pdf: this PDF cannot be read"),
        ("a.pdf", pdf_bytes(""), "a.pdf: this PDF has no text"),
        ("a.txt", b"caf\xe9", "a.txt, line 1: this is not UTF-8"),
        ("a.csv", b'a,b\n"x', "a.csv, line 2"),
        ("a.csv", b"", "a.csv: this file has no rows"),
        ("a.csv", b"id,text\n", "a.csv: this file has no rows"),
        ("a.csv", b"id,text\n1,a\n1,b\n", "a.csv, row 2: another row has the key '1'"),
        ("a.jsonl", b"{}\n[1]", "a.jsonl, line 2: expected an object"),
        ("a.docx", b"", "a.docx: a .docx file cannot be read; suffixes are: .csv"),
        ("a.txt", b"x" * 101, "a.txt: 101 bytes are more than the 100 allowed"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(
    name: str, data: bytes, message: str
) -> None:
    with pytest.raises(DefinitionError) as raised:
        parse_file(name, data, limit=100 if len(data) == 101 else 10_000)
    assert message in str(raised.value)


def test_the_reader_of_pdfs_prints_nothing_by_itself() -> None:
    with pytest.raises(DefinitionError):
        parse_file("a.pdf", b"%PDF-1.4 garbage")
    assert logging.getLogger("pypdf").handlers


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(100 * 1024**2)  # sparse
    with pytest.raises(DefinitionError, match=r"large\.txt: 104857600 bytes are more than"):
        read_file(path)


def test_patterns_and_folders_give_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.md", "a.md", "sub/c.txt", "image.png"):
        path = tmp_path / "handbook" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    keys: Any = [document.key for document in read_files("handbook/*.md")]
    assert keys == ["handbook/a.md", "handbook/b.md"]
    keys = [document.key for document in read_files(["handbook/b.md", Path("handbook")])]
    assert keys == ["handbook/b.md", "handbook/a.md", "handbook/sub/c.txt"]
    with pytest.raises(DefinitionError, match=r"none/\*\.md: there is no such file"):
        list(read_files("none/*.md"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DefinitionError, match="empty: no file in this folder can be read; suffixe"):
        list(read_files("empty"))


def test_every_suffix_has_one_reader() -> None:
    suffixes = [suffix for reader in READERS.values() for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))
