"""Each change is really made, on a copy of the source.

How many files it touches, and where it is seen.
"""

from pathlib import Path

import pytest

from tests.changes.changed_source import ChangedSource

CHANGES = Path(__file__).parent
pytestmark = pytest.mark.full


def test_an_optimizer_touches_its_file_and_the_registry(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    source.add("learning/optimizers/one_try.py", (CHANGES / "one_try.py").read_text())
    registry, line = "learning/optimizers/registry.py", "from dspex.learning.optimizers.o"
    source.replace(registry, "    mipro,\n", "    mipro,\n    one_try,\n")
    source.replace(registry, f"{line}ptions", f"{line}ne_try import OneTry\n{line}ptions")
    source.replace(registry, '    "MIPROv2",\n', '    "MIPROv2",\n    "OneTry",\n')
    source.replace(
        registry, "        joint.ENTRY,\n", "        joint.ENTRY,\n        one_try.ENTRY,\n"
    )
    assert len(source.touched) == 2
    source.run("tests.changes.use_optimizer")


def test_a_metric_touches_one_file(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    file = "learning/evaluation/metrics.py"
    source.replace(file, '    "f1",\n', '    "f1",\n    "brief",\n')
    source.replace(file, "        f1,\n", "        f1,\n        brief,\n")
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


DECIMAL = """    "decimal": AttributeKind(
        hints=(Decimal,),
        storage="text",
        schema={"type": "string", "format": "decimal"},
        from_json=_decimal,
        comparisons=("eq",),
        is_sortable=False,
        parse=_decimal,
        expected="a decimal number",
        scalar=Scalar(
            name="Decimal",
            description="An exact decimal number.",
            expected="a decimal number",
            serialize=str,
        ),
        encode=str,
        decode=Decimal,
    ),
}
_KIND_OF_HINT"""
READ_DECIMAL = """def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(value)
    except ArithmeticError as error:
        raise ValueError("not a decimal number") from error


ATTRIBUTE_KINDS: Final"""


def test_an_attribute_kind_touches_one_file(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    file = "operations/framework/attribute_kinds.py"
    source.replace(file, "from functools", "from decimal import Decimal\nfrom functools")
    source.replace(file, "}\n_KIND_OF_HINT", DECIMAL)
    source.replace(file, "ATTRIBUTE_KINDS: Final", READ_DECIMAL)
    assert len(source.touched) == 1
    program = str(CHANGES / "use_attribute_kind.py")
    output = source.run("pytest", "-p", "no:randomly", "-p", "no:cacheprovider", program)
    assert "4 passed" in output  # one of them on SQLite and on PostgreSQL


def test_a_provider_protocol_touches_its_file_and_the_registry(tmp_path: Path) -> None:
    source = ChangedSource(tmp_path)
    source.add("execution/clients/echo.py", (CHANGES / "echo.py").read_text())
    entry = '    "echo": Provider("http://127.0.0.1:1/v1", "ECHO_API_KEY", "echo:EchoModel"),\n'
    source.replace("execution/clients/providers.py", "}\n\nSELF", entry + "}\n\nSELF")
    assert len(source.touched) == 2
    source.run("tests.changes.use_provider")
