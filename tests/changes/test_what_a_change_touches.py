"""Each change is really made, on a copy of the source: how many files it touches, and where it is seen."""

from pathlib import Path

import pytest

from tests.changes.changed_source import ChangedSource

CHANGES = Path(__file__).parent
pytestmark = pytest.mark.full


def test_an_optimizer_touches_its_file_and_the_registry(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    source.add("learning/optimizers/one_try.py", (CHANGES / "one_try.py").read_text())
    registry, own = "learning/optimizers/registry.py", "from dspex.learning.optimizers.o"
    source.replace(registry, "    mipro,\n", "    mipro,\n    one_try,\n")
    source.replace(registry, f"{own}ptions", f"{own}ne_try import OneTry\n{own}ptions")
    source.replace(registry, '"MIPROv2", ', '"MIPROv2", "OneTry", ')
    source.replace(
        registry, "        joint.ENTRY,\n", "        joint.ENTRY,\n        one_try.ENTRY,\n"
    )
    assert len(source.touched) == 2
    source.run("tests.changes.use_optimizer")


def test_a_metric_touches_one_file(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    file = "learning/evaluation/metrics.py"
    source.replace(file, '"judged"]', '"judged", "brief"]')
    source.replace(file, "f1, judged)", "f1, judged, brief)")
    source.replace(
        file,
        "METRICS: Mapping",
        "def brief(example: Example, prediction: Prediction) -> float:\n"
        '    """Return 1 if the answer is short."""\n'
        "    return float(all(len(str(value)) < 100 for value in prediction.values()))\n"
        "\n\nMETRICS: Mapping",
    )
    assert len(source.touched) == 1
    source.run("tests.changes.use_metric")
