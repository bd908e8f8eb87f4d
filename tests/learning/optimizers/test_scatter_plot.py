"""The plot of trials: its labels stay clear of lines, points and the edge."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.learning.optimizers.plot_labels import Box, place_label
from dspex.learning.optimizers.scatter_plot import HEIGHT, LEFT, WIDTH, Point, scatter

PLOT = Box(left=0, top=0, right=640, bottom=360)
SHEET = Box(left=LEFT, top=0, right=WIDTH, bottom=HEIGHT)
NEAR, FAR = (0.0002, 0.17), (0.0008, 0.62)


def _lines(svg):
    paths = re.findall(r'<path class="(?:front|gain)" d="M([^"]+)"', svg)
    return [[tuple(map(float, part.split())) for part in path.split("L")] for path in paths]


def _boxes(svg):
    """Return the rooms of the labels, by a generous estimate of 7 units for a letter."""
    labels = re.findall(r'class="words" x="(.+?)" y="(.+?)" text-anchor="(\w+)" .+?>(\w+)<', svg)
    for x, y, anchor, text in labels:
        width, place = 7.0 * len(text), float(x)
        start = {"start": place, "middle": place - width / 2, "end": place - width}[anchor]
        yield Box(left=start, top=float(y) - 10, right=start + width, bottom=float(y) + 3)


@pytest.mark.parametrize(
    ("before", "best", "held_out"),
    [
        (NEAR, (0.0008, 0.71), (NEAR, FAR)),
        ((0.0002, 0.17), (0.0002, 0.71), ((0.0002, 0.2), (0.0002, 0.7))),
        ((0.0008, 0.17), (0.0002, 0.71), ((0.0008, 0.16), (0.0002, 0.7))),
        ((0.0008, 0.7), (0.0002, 0.1), ((0.0008, 0.6), (0.0002, 0.2))),
        ((0.0002, 0.5), (0.0008, 0.5), ((0.0002, 0.5), (0.0008, 0.5))),
    ],
)
def test_labels_touch_no_line_and_stay_inside(before, best, held_out):
    points = [
        Point(
            x=before[0], y=before[1], label="a", mark="before",
            is_on_front=before[0] < best[0] or before[1] > best[1],
        ),
        Point(x=best[0], y=best[1], label="b", is_on_front=True, mark="best"),
    ]  # fmt: skip
    diamonds = [Point(x=x, y=y, label="held-out rows") for x, y in held_out]
    svg = scatter(points, x="usd", y="right", held_out=diamonds)
    boxes = list(_boxes(svg))
    assert len(boxes) == 2
    for box in boxes:
        assert SHEET.holds(box)
        crossed = [ends for line in _lines(svg) for ends in pairwise(line) if box.crosses(*ends)]
        assert crossed == []
    assert svg.index('class="words"') > svg.index('class="gain"')


place = st.tuples(st.floats(80, 560), st.floats(40, 320))


@given(place, place, place)
def test_a_label_has_a_free_place_beside_one_line(point, start, end):
    label = place_label("before", point, plot=PLOT, lines=[[start, end]], points=[point])
    assert not label.box.crosses(start, end)


def test_a_line_crosses_a_box_that_it_passes_through():
    box = Box(left=10, top=10, right=50, bottom=20)
    assert box.crosses((0, 15), (60, 15))
    assert box.crosses((5, 5), (60, 30))
    assert box.crosses((20, 15), (20, 15))
    assert not box.crosses((0, 21), (60, 21))
    assert not box.crosses((0, 15), (5, 15))
    assert not box.crosses((60, 0), (60, 40))
