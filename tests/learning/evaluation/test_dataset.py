import json
import math
import os
import time
from datetime import datetime
from typing import Any

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.language.records.canonical import content_hash


def _written(tmp_path, name, data):
    file = tmp_path / name
    file.write_bytes(data)
    return file


def test_all_three_formats_give_the_same_rows_and_checksum(tmp_path):
    csv = _written(
        tmp_path, "a.csv", '\ufefftext,label\r\n"one, two",x\r\n\r\nthree,y\r\n'.encode()
    )
    jsonl = _written(
        tmp_path,
        "b.jsonl",
        b'{"text": "one, two", "label": "x"}\n\n{"text": "three", "label": "y"}\n',
    )
    listed = _written(
        tmp_path,
        "c.json",
        b'\xef\xbb\xbf[{"text":"one, two","label":"x"},{"label":"y","text":"three"}]',
    )
    datasets = [dspex.Dataset.from_file(file) for file in (csv, jsonl, listed)]
    assert [row.to_dict() for row in datasets[0]] == [
        {"text": "one, two", "label": "x"},
        {"text": "three", "label": "y"},
    ]
    assert len({data.checksum for data in datasets}) == 1
    assert datasets[0] == datasets[1]
    assert datasets[0][:1].checksum != datasets[0].checksum


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "no rows"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label\na,b\nc\n", "line 3: 1 values for 2 columns"),
        ("a.csv", b'text,label\n"a,b\nc,d\n', "line 3"),
        ("a.csv", b"text,\na,b\n", "column 2 has no name"),
        ("a.csv", b"text,text\na,b\n", "two columns are named 'text'"),
        ("a.csv", b"text,label\na,b\n\xff,c\n", "line 3: this is not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2: this is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: expected an object"),
        ("a.json", b'{"a": 1}', "expected a list of objects"),
        ("a.txt", b"a", "use .csv"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
            "line 2: lists and objects are nested",
        ),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": ' + b"[" * 500 + b"]" * 500 + b"}\n",
            "line 2: lists and objects are nested deeper",
        ),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\ud800"}\n', "line 2: this is not JSON"),
        ("a.json", b"[{}, " + b'{"a":' * 100_000, "nested deeper than 200 levels"),
        (
            "a.csv",
            b",".join(b"c%d" % n for n in range(50_000)) + b"\n1,2\n",
            "line 2: 2 values for 50000 columns",
        ),
    ],
)
def test_bad_file_is_refused_with_file_and_line(tmp_path, name, data, message):
    file = _written(tmp_path, name, data)
    with pytest.raises(DefinitionError) as caught:
        dspex.Dataset.from_file(file)
    assert str(file) in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "problem"), [("rows", "a file without extension"), ("rows.xls", "a .xls file")]
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, problem):
    (tmp_path / name).write_text("text\na\n")
    with pytest.raises(
        DefinitionError, match=f"{problem} cannot be read; use .csv, .jsonl or .json"
    ):
        dspex.Dataset.from_file(tmp_path / name)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_a_file_without_an_end_is_refused(tmp_path, ending):
    file = tmp_path / f"endless.{ending}"
    file.symlink_to("/dev/zero")
    with pytest.raises(DefinitionError, match="a device or a pipe"):
        dspex.Dataset.from_file(file)
    pipe = tmp_path / f"pipe.{ending}"
    os.mkfifo(pipe)
    with pytest.raises(DefinitionError, match="a device or a pipe"):
        dspex.Dataset.from_file(pipe)
    folder = tmp_path / f"folder.{ending}"
    folder.mkdir()
    with pytest.raises(DefinitionError, match="this is a folder"):
        dspex.Dataset.from_file(folder)
    with pytest.raises(DefinitionError, match="cannot be read"):
        dspex.Dataset.from_file(f"\0.{ending}")


def test_a_file_that_is_too_large_for_memory_is_refused_unread(tmp_path):
    file = tmp_path / "sparse.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate(3 * 1024**3)
    with pytest.raises(DefinitionError, match="split it"):
        dspex.Dataset.from_file(file)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_one_row_of_many_columns_is_read_in_linear_time(tmp_path, ending):
    names = [f"column{n}" for n in range(50_000)]
    row = dict.fromkeys(names, "a")
    text = json.dumps(row) if ending == "jsonl" else ",".join(names) + "\n" + ",".join(row.values())
    file = _written(tmp_path, f"wide.{ending}", text.encode())
    started = time.thread_time()
    data = dspex.Dataset.from_file(file)
    assert len(data.checksum) == 64
    assert data.fields == tuple(names)
    assert time.thread_time() - started < 5


def test_missing_file_is_said(tmp_path):
    with pytest.raises(DefinitionError, match="no such file"):
        dspex.Dataset.from_file(tmp_path / "none.csv")


def _labelled(count):
    return dspex.Dataset.from_rows(
        [{"text": f"t{n}", "label": "ab"[n % 4 == 0]} for n in range(count)]
    )


def test_stratified_split_is_disjoint_complete_seeded_and_keeps_the_shares():
    data = _labelled(40)
    train, held_out = data.split(0.5, seed=3, stratify="label")
    assert len(train) == len(held_out) == 20
    assert not train.duplicates(held_out)
    assert train.column("label").count("b") == held_out.column("label").count("b") == 5
    assert data.split(0.5, seed=3, stratify="label")[0].checksum == train.checksum
    assert data.split(0.5, seed=4, stratify="label")[0].checksum != train.checksum


def test_split_into_everything_leaves_no_empty_part():
    data = _labelled(10)
    assert [len(part) for part in data.split(4, 6, seed=0)] == [4, 6]
    with pytest.raises(DefinitionError, match="do not fit"):
        data.split(6, 6, seed=0)
    with pytest.raises(DefinitionError, match="has no rows"):
        data.split(0.01, seed=0)


def test_duplicates_between_splits_are_found_whatever_their_case_and_spacing():
    train = dspex.Dataset.from_rows([{"text": "My card  is lost"}, {"text": "other"}])
    test = dspex.Dataset.from_rows([{"text": "new"}, {"text": "my card is LOST"}])
    assert train.duplicates(test, fields=["text"]) == [(0, 1)]


def test_unknown_field_names_the_known_ones():
    with pytest.raises(DefinitionError, match="Did you mean 'label'"):
        _labelled(3).column("labels")
    with pytest.raises(DefinitionError, match="no row of"):
        _labelled(3).where(label="z")


def test_split_gives_as_many_parts_as_it_is_asked_for_or_says_why_not():
    data = dspex.Dataset.from_rows([{"n": n} for n in range(100)])
    with pytest.raises(
        DefinitionError, match=r"parts of 0\.999 leave no row of the 100 .* for the last part"
    ):
        data.split(0.999, seed=0)
    with pytest.raises(DefinitionError, match="has no rows"):
        data.split(float("nan"), seed=0)
    for size in (1.0, -1, "half", True, 2.5):
        with pytest.raises(DefinitionError, match="give a fraction below 1 or a count from 1"):
            data.split(size, seed=0)
    for count in (3, 7, 10, 100):
        rows = data[:count]
        for sizes in ((0.5, 0.5), (0.7, 0.2, 0.1), (0.33, 0.33, 0.34), (1, count - 1)):
            if min(sizes) * count < 0.5:
                continue
            parts = rows.split(*sizes, seed=0)
            assert len(parts) == len(sizes)
            numbers: list[Any] = [row["n"] for part in parts for row in part]
            assert sorted(numbers) == list(range(count))
    assert [len(part) for part in data.split(0.2, 0.3, seed=0)] == [20, 30, 50]


def test_checksums_name_contents_whatever_their_classes():
    def checksum(value):
        return dspex.Dataset.from_rows([{"value": value}]).checksum

    plain = [{"a": [1, 2.5, None, True], "b": "\u00e9"}, {"c": {"d": "x"}}]
    assert dspex.Dataset.from_rows(plain).checksum == content_hash(plain)
    assert checksum((1, 2)) == checksum([1, 2])
    assert checksum({"b", "a"}) == checksum(["a", "b"])
    without_zone = datetime(2026, 1, 2)  # noqa: DTZ001
    assert checksum(without_zone) == checksum("2026-01-02T00:00:00")
    assert checksum(b"\xff") == checksum("/w==")
    assert checksum(math.nan) == checksum("nan")
    assert checksum([1, 2]) != checksum([2, 1])
