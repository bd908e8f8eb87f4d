"""Pictures, recordings and files: made of paths, bytes, URLs and data URIs."""

from pathlib import Path

import pytest

from dspex.errors import MediaError
from dspex.language.records.media_types import MAX_MEDIA_BYTES, media_type_of
from dspex.media import Audio, File, Image
from tests.support.pictures import gif, jpeg, pdf, png, wav, webp


def test_a_picture_is_made_of_a_path_bytes_a_url_or_a_data_uri(tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(png())
    picture = Image(png())
    assert picture == Image(path) == Image(str(path)) == Image(picture.url, "image/png")
    assert picture.url.startswith("data:image/png;base64,iVBOR")
    assert Image("https://example.org/a.png") == Image("https://example.org/a.png", None, None)
    assert Image.from_bytes(jpeg(2, 2)).media_type == "image/jpeg"


def test_a_file_keeps_its_name_and_shows_its_type(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("a,b")
    assert File(path) == File.from_bytes(b"a,b", name="notes.csv")
    assert (File(path).name, File(path).media_type) == ("notes.csv", "text/csv")
    assert File(pdf()).media_type == "application/pdf"
    assert File(b"?").media_type == "application/octet-stream"
    assert File("https://example.org/a.pdf").media_type is None
    assert Audio(wav()).media_type == "audio/wav"


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (png(), "image/png"),
        (jpeg(1, 1), "image/jpeg"),
        (gif(1, 1), "image/gif"),
        (webp(1, 1), "image/webp"),
        (wav(), "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (pdf(), "application/pdf"),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_the_first_bytes_show_the_type(data: bytes, media_type: str | None) -> None:
    assert media_type_of(data) == media_type
    assert media_type_of(data, "x.html") == (media_type or "text/html")


def test_what_is_not_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<p>")
    for source in (path, pdf(), wav(), b"?"):
        with pytest.raises(MediaError, match="not image/"):
            Image(source)
    with pytest.raises(MediaError, match="not audio/"):
        Audio(png())


def test_a_missing_or_too_large_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot read 'missing\.png'"):
        Image("missing.png")
    with pytest.raises(MediaError, match="cannot read"):
        Image(tmp_path)
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.write(png())
        file.truncate(MAX_MEDIA_BYTES + 1)
    with pytest.raises(MediaError, match="more than 20971520 bytes"):
        Image(large)
