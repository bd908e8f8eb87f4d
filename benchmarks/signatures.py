"""Declaring, validating, schemas and parsing against pydantic, dspy and msgspec.

Goals: validation costs at most 1.3 times the bare pydantic-core validator plus 0.5 us; declaring
five fields costs less than dspy's; ten times as many fields parse in at most fifteen times as long;
nothing is compiled twice.

    python benchmarks/signatures.py [--quick] [--check]
"""

import argparse
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic
import pydantic_core

from dspex.language.signatures import Signature

RESULTS = Path(__file__).parent / "results" / "signatures.json"
FIVE = "question, context: list[str] -> answer: str, confidence: float, sources: list[str]"
FOUR = "-> answer: str, confidence: float, count: int, tags: list[str]"
FOUR_VALUES = {"answer": "Paris", "confidence": 0.9, "count": 3, "tags": ["a", "b"]}
EIGHT_VALUES = {
    "name": "Ada", "age": 36, "score": 0.5, "active": True, "grade": "A", "tags": ["x", "y"],
    "counts": {"a": 1}, "address": {"street": "Main", "number": 7},
}  # fmt: skip


class Address(pydantic.BaseModel):
    street: str
    number: int


class StructAddress(msgspec.Struct):
    street: str
    number: int


EIGHT_HINTS: dict[str, Any] = {
    "name": str, "age": int, "score": float, "active": bool, "grade": Literal["A", "B"],
    "tags": list[str], "counts": dict[str, int], "address": Address,
}  # fmt: skip
FOUR_HINTS: dict[str, Any] = {"answer": str, "confidence": float, "count": int, "tags": list[str]}
FIVE_HINTS: dict[str, Any] = {
    "question": str, "context": list[str], "answer": str, "confidence": float, "sources": list[str],
}  # fmt: skip


def cpu_us(call: Callable[[], object], *, seconds: float) -> float:
    """Return the median CPU us of one call over seven runs that share `seconds`."""
    call()
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds / 20:
        call()
        count += 1
    each = []
    gc.disable()
    for _ in range(7):
        start = time.process_time()
        for _ in range(count):
            call()
        each.append((time.process_time() - start) / count * 1e6)
    gc.enable()
    return statistics.median(each)


def eight() -> Signature:
    signature = Signature("-> name: str")
    for name, hint in list(EIGHT_HINTS.items())[1:]:
        signature = signature.append(name, hint)
    return signature


def declare(seconds: float) -> dict[str, float]:
    rows = {
        "dspex, string form": cpu_us(lambda: Signature(FIVE), seconds=seconds),
        "dspex, class form": cpu_us(dspex_class, seconds=seconds),
        "pydantic create_model": cpu_us(
            lambda: pydantic.create_model(
                "M", **{name: (hint, ...) for name, hint in FIVE_HINTS.items()}
            ),
            seconds=seconds,
        ),
        "msgspec defstruct": cpu_us(
            lambda: msgspec.defstruct("M", list(FIVE_HINTS.items())), seconds=seconds
        ),
    }
    dspy = find_dspy()
    if dspy is not None:
        rows["dspy, string form"] = cpu_us(lambda: dspy.Signature(FIVE), seconds=seconds)
    return rows


def dspex_class() -> object:
    annotations = {**FIVE_HINTS}
    from dspex.language.signatures import Output

    outputs = {name: Output() for name in ("answer", "confidence", "sources")}
    return type(
        "QA", (Signature,), {"__annotations__": annotations, "__doc__": "Answer.", **outputs}
    )


def find_dspy() -> Any:
    try:
        import dspy
    except ImportError as error:
        print(f"dspy is skipped: {error} (pip install dspy)")
        return None
    return dspy


def validate(
    signature: Signature, hints: dict[str, Any], values: dict[str, Any], *, seconds: float
) -> dict[str, float]:
    model = pydantic.create_model("M", **{name: (hint, ...) for name, hint in hints.items()})
    shape = pydantic.TypeAdapter(_typed_dict(hints)).validator
    struct_hints = {
        name: StructAddress if hint is Address else hint for name, hint in hints.items()
    }
    struct = msgspec.defstruct("S", list(struct_hints.items()))
    return {
        "bare pydantic-core (TypedDict)": cpu_us(
            lambda: shape.validate_python(values), seconds=seconds
        ),
        "dspex, coercing": cpu_us(lambda: signature.validate_outputs(values), seconds=seconds),
        "dspex, strict": cpu_us(
            lambda: signature.validate_outputs(values, mode="strict"), seconds=seconds
        ),
        "pydantic create_model": cpu_us(lambda: model.model_validate(values), seconds=seconds),
        "msgspec convert": cpu_us(lambda: msgspec.convert(values, struct), seconds=seconds),
    }


def _typed_dict(hints: dict[str, Any]) -> Any:
    from typing_extensions import TypedDict

    forbid_extra = pydantic.with_config(pydantic.ConfigDict(extra="forbid"))
    return forbid_extra(TypedDict("T", hints))


def schemas(seconds: float) -> dict[str, float]:
    signature = eight()
    model_fields = {name: (hint, ...) for name, hint in EIGHT_HINTS.items()}
    model = pydantic.create_model("M", **model_fields)
    return {
        "dspex, generic": cpu_us(lambda: signature.to_json_schema(), seconds=seconds),
        "dspex, openai": cpu_us(lambda: signature.to_json_schema("openai"), seconds=seconds)
        if _has_openai(signature)
        else float("nan"),
        "dspex, cold (declared and written)": cpu_us(
            lambda: eight().to_json_schema(), seconds=seconds
        ),
        "pydantic, warm": cpu_us(lambda: model.model_json_schema(), seconds=seconds),
        "pydantic, cold (declared and written)": cpu_us(
            lambda: pydantic.create_model("M", **model_fields).model_json_schema(), seconds=seconds
        ),
    }


def _has_openai(signature: Signature) -> bool:
    return bool(signature.to_json_schema("openai"))


def parse_growth() -> dict[str, float]:
    figures = {}
    for count in (10, 100, 999):
        text = (
            ", ".join(f'field_{n}: list[str][min_items=1] "text"' for n in range(count))
            + " -> answer"
        )
        figures[f"{count} fields"] = (
            min(cpu_once(lambda text=text: Signature(text)) for _ in range(3)) / 1000
        )
    return figures


def cpu_once(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1e6


def compilations() -> int:
    """Count the validators that the engine compiles for 3 x 1000 calls in two modes.

    The three variants of the signature share their fields.
    """
    count = 0
    engine = pydantic_core.SchemaValidator

    def counting(schema: Any, config: Any = None) -> Any:
        nonlocal count
        count += 1
        return engine(schema, config)

    pydantic_core.SchemaValidator = counting  # type: ignore[assignment]
    try:
        signature = Signature(FOUR)
        for variant in (
            signature,
            signature.with_instructions("x"),
            signature.with_instructions("y"),
        ):
            for _ in range(500):
                variant.validate_outputs(FOUR_VALUES)
                variant.validate_outputs(FOUR_VALUES, mode="strict")
            signature = variant
    finally:
        pydantic_core.SchemaValidator = engine
    return count


def goals(tables: dict[str, dict[str, float]], compiled: int) -> list[tuple[str, bool]]:
    results = []
    for name in ("validate, 4 fields", "validate, 8 fields, nested model"):
        rows = tables[name]
        bare, ours = rows["bare pydantic-core (TypedDict)"], rows["dspex, coercing"]
        limit = 1.3 * bare + 0.5
        results.append(
            (f"{name}: {ours:.2f} us within 1.3 x {bare:.2f} + 0.5 = {limit:.2f} us", ours <= limit)
        )
    ours, theirs = (
        tables["declare, 5 fields"]["dspex, string form"],
        tables["declare, 5 fields"].get("dspy, string form"),
    )
    if theirs is not None:
        results.append((f"declaring: {ours:.0f} us, dspy {theirs:.0f} us", ours < theirs))
    growth = list(tables["parse, ms"].values())
    ratios = [after / before for before, after in itertools.pairwise(growth)]
    results.append(
        (
            f"ten times the fields parse in {max(ratios):.1f} times as long, at most 15",
            max(ratios) <= 15,
        )
    )
    results.append(
        (
            f"validators compiled for two modes and three variants: {compiled}, at most 2",
            compiled <= 2,
        )
    )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a second per figure, not five")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else 5.0
    tables = {
        "declare, 5 fields": declare(seconds),
        "validate, 4 fields": validate(Signature(FOUR), FOUR_HINTS, FOUR_VALUES, seconds=seconds),
        "validate, 8 fields, nested model": validate(
            eight(), EIGHT_HINTS, EIGHT_VALUES, seconds=seconds
        ),
        "schema, 8 fields": schemas(seconds),
        "parse, ms": parse_growth(),
    }
    reached = goals(tables, compilations())
    for title, rows in tables.items():
        unit = "ms" if title.endswith("ms") else "CPU us"
        print(f"\n{title} ({unit})")
        for name, value in rows.items():
            print(f"  {name:40} {value:10.2f}")
    print()
    for text, ok in reached:
        print(f"{'reached' if ok else 'MISSED '}  {text}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {"tables": tables, "goals": [{"goal": g, "reached": ok} for g, ok in reached]}, indent=2
        )
    )
    return 1 if options.check and not all(ok for _, ok in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
