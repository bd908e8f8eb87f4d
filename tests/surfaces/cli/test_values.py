"""Inputs from arguments: pictures and files by path."""

from pathlib import Path

import pytest

from dspex.errors import MediaError
from dspex.language.signatures import Signature
from dspex.language.signatures.content import data_uri
from dspex.surfaces.cli.values import parse_inputs
from tests.support.pictures import pdf, png

LOOK = Signature("photo: Image?, papers: list[File], q: str -> a")


def test_a_path_after_an_at_sign_is_the_file_of_a_picture(tmp_path: Path) -> None:
    photo, paper, question = tmp_path / "a.png", tmp_path / "a.pdf", tmp_path / "q.txt"
    photo.write_bytes(png())
    paper.write_bytes(pdf())
    question.write_text("what?")
    inputs = parse_inputs([f"photo=@{photo}", f"papers=@{paper}", f"q=@{question}"], LOOK)
    assert inputs == {
        "photo": {
            "url": data_uri(png(), "image/png"),
            "media_type": "image/png",
            "name": "a.png",
        },
        "papers": [
            {
                "url": data_uri(pdf(), "application/pdf"),
                "media_type": "application/pdf",
                "name": "a.pdf",
            }
        ],
        "q": "what?",
    }
    assert LOOK.validate_inputs(inputs)["photo"].media_type == "image/png"


def test_a_url_stays_one_and_a_missing_file_is_an_error_with_its_field() -> None:
    assert parse_inputs(["photo=https://example.org/a.png"], LOOK) == {
        "photo": "https://example.org/a.png"
    }
    with pytest.raises(MediaError, match=r"photo: cannot read 'missing\.png'") as caught:
        parse_inputs(["photo=@missing.png"], LOOK)
    assert caught.value.context["path"] == "photo"
