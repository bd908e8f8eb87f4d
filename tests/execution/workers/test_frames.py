import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.execution.workers.child.frames import JSON, MSGPACK, FrameError, FrameSplitter, pack
from tests.support.properties import examples

FRAMES = st.lists(st.tuples(st.sampled_from([JSON, MSGPACK]), st.binary(max_size=300)), max_size=8)


@examples()
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 2500), max_size=12))
def test_frames_survive_any_splitting_and_merging(frames, cuts):
    stream = b"".join(pack(codec, payload) for codec, payload in frames)
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    splitter = FrameSplitter()
    parsed_frames = [
        frame for a, b in itertools.pairwise(edges) for frame in splitter.feed(stream[a:b])
    ]
    assert parsed_frames == frames
    splitter.close()


@examples()
@given(data=st.binary(max_size=200))
def test_any_bytes_are_frames_or_a_frame_error(data):
    splitter = FrameSplitter(limit=1000)
    kind = "frames"
    try:
        splitter.feed(data)
        splitter.close()
    except FrameError as error:
        kind = error.kind
    assert kind in {"frames", "oversize", "garbage", "truncated"}


def test_the_first_bytes_of_a_frame_are_length_and_codec():
    assert pack(JSON, b"{}") == b"\x00\x00\x00\x03\x01{}"


def test_an_oversize_frame_is_refused_before_its_bytes_arrive():
    with pytest.raises(FrameError, match="announces 4294967295 bytes") as caught:
        FrameSplitter().feed(b"\xff\xff\xff\xff")
    assert caught.value.kind == "oversize"


def test_a_message_over_the_limit_is_never_written():
    assert len(pack(JSON, b"x" * 99, limit=100)) == 104
    with pytest.raises(FrameError, match="101 bytes is over the limit of 100"):
        pack(JSON, b"x" * 100, limit=100)
