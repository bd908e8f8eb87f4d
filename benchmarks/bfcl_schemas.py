"""Read the function schemas of the Berkeley Function Calling Leaderboard as signatures.

The schemas use a custom dialect (`dict`, `float`, `tuple`, `any`, Java's and JavaScript's type
names). `FOREIGN_TYPES` is the table that reads them; --table prints it. For every property, at any
depth, the signature's generic schema must contain name, type, required, enum, items and
description. It may contain `any` only if the source says any or has no type. Each name must survive
the conversion to a name that providers accept. Goal: at most 1% refused, each with its reason.

    pip install --no-deps --target FOLDER bfcl-eval
    python benchmarks/bfcl_schemas.py --data FOLDER [--quick] [--check] [--table]
"""

import argparse
import collections
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspex.errors import SignatureError
from dspex.language.signatures import Signature
from dspex.language.signatures.names import original_name, provider_name
from dspex.language.signatures.schema_reader import FOREIGN_TYPES

RESULTS = Path(__file__).parent / "results" / "bfcl_schemas.json"


def find_data(folder: str | None) -> Path | None:
    if folder:
        return Path(folder) / "bfcl_eval" / "data"
    spec = importlib.util.find_spec("bfcl_eval")
    return (
        Path(spec.submodule_search_locations[0]) / "data"
        if spec and spec.submodule_search_locations
        else None
    )


def functions(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every function description of every file."""
    for file in sorted(folder.rglob("*.json")):
        for line in file.read_text().splitlines():
            row = (
                json.loads(line)
                if line.strip().startswith("{") and line.strip().endswith("}")
                else None
            )
            if not isinstance(row, dict):
                continue
            entries = row.get("function", [row] if "parameters" in row else [])
            yield from (
                item
                for item in (entries if isinstance(entries, list) else [entries])
                if "parameters" in item
            )


def kinds(schema: Any) -> set[str]:
    """Return the JSON types that our schema allows, "any" if it names none."""
    if not isinstance(schema, dict):
        return {"any"}
    if "anyOf" in schema:
        return set().union(*(kinds(part) for part in schema["anyOf"]))
    kind = schema.get("type", "any")
    return set(kind) if isinstance(kind, list) else {kind}


def losses(  # noqa: C901
    source: dict[str, Any], ours: Any, *, path: str, is_required: bool
) -> Iterator[str]:
    """Yield each part of `source`, a property of the benchmark, that our schema lacks."""
    if not isinstance(ours, dict):
        yield f"{path}: missing"
        return
    inner = next((part for part in ours.get("anyOf", ()) if part.get("type") != "null"), ours)
    merged = {**inner, **{key: value for key, value in ours.items() if key != "anyOf"}}
    word = source.get("type", "any")
    expected = FOREIGN_TYPES.get(word, word)
    types = kinds(ours) - ({"null"} if not is_required else set())
    if "enum" in source:
        values = [value for value in source["enum"] if value is not None]
        if [value for value in merged.get("enum", []) if value is not None] != list(
            dict.fromkeys(values)
        ):
            yield f"{path}: enum"
    elif expected == "any" and types != {"any"}:
        if not {"properties", "items"} & source.keys():
            yield f"{path}: type {word!r} became {types}"
    elif expected != "any" and types != {expected}:
        yield f"{path}: type {word!r} became {sorted(types)}"
    if not str(merged.get("description", "")).startswith(str(source.get("description", ""))):
        yield f"{path}: description"
    if isinstance(source.get("items"), dict) and "enum" not in source:
        # a signature has no description of an item; the list's description contains it
        items = {**source["items"], "description": ""}
        if str(source["items"].get("description", "")) not in str(merged.get("description", "")):
            yield f"{path}[]: description"
        yield from losses(items, merged.get("items", {}), path=f"{path}[]", is_required=True)
    if source.get("properties"):
        yield from object_losses(source, merged, path=path)


def object_losses(source: dict[str, Any], ours: dict[str, Any], *, path: str) -> Iterator[str]:
    required = source.get("required") or []
    for name, part in source["properties"].items():
        is_required = name in required
        if (name in ours.get("required", [])) != is_required and not _is_open(part):
            yield f"{path}.{name}: required"
        if isinstance(part, dict):
            inner = ours.get("properties", {}).get(name)
            yield from losses(part, inner, path=f"{path}.{name}", is_required=is_required)


def _is_open(part: Any) -> bool:
    """Whether the source lists null among the values."""
    return isinstance(part, dict) and None in part.get("enum", [])


def examine(function: dict[str, Any]) -> tuple[str, list[str]]:
    """Return why a function is refused ("" if it is not), and which parts were lost."""
    try:
        signature = Signature.from_json_schema(function, foreign=FOREIGN_TYPES)
        name = provider_name(signature.name)
    except SignatureError as error:
        return error.message, []
    differences = list(
        object_losses(
            {"properties": {}, **function["parameters"]},
            signature.to_json_schema(purpose="inputs"),
            path="",
        )
    )
    if original_name(name) != function["name"]:
        differences.append(f"name {function['name']!r} came back as {original_name(name)!r}")
    if Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) != signature:
        differences.append("the stored form is not equal")
    if Signature(str(signature)) != signature:
        differences.append("the string form is not equal")
    return "", differences


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="folder into which bfcl-eval was installed, if not importable"
    )
    parser.add_argument("--quick", action="store_true", help="only every fifth function")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument(
        "--table", action="store_true", help="print the table of type words and stop"
    )
    options = parser.parse_args()
    if options.table:
        for word, meaning in FOREIGN_TYPES.items():
            print(f"{word!r:14} {meaning}")
        return 0
    folder = find_data(options.data)
    if folder is None or not folder.is_dir():
        print("skipped: the package bfcl-eval is not installed; see the head of this file")
        return 0
    start = time.process_time()
    descriptions = list(functions(folder))[:: 5 if options.quick else 1]
    refused: collections.Counter[str] = collections.Counter()
    lost: list[str] = []
    for function in descriptions:
        reason, differences = examine(function)
        if reason:
            refused[f"{function['name']}: {reason}"] += 1
        lost += [f"{function['name']}{part}" for part in differences]
    return report(
        len(descriptions), refused, lost, seconds=time.process_time() - start, check=options.check
    )


def report(
    count: int, refused: "collections.Counter[str]", lost: list[str], *, seconds: float, check: bool
) -> int:
    total = refused.total()
    share = total / max(count, 1)
    print(
        f"{count} functions in {seconds:.1f} CPU s; refused {total} ({share:.2%}); lost "
        f"{len(lost)} parts"
    )
    for reason, times in refused.most_common(40):
        print(f"  refused {times:4} x {reason.splitlines()[0][:180]}")
    for part in lost[:40]:
        print(f"  lost {part[:180]}")
    ok = total <= count / 100 and not lost and count > 0
    print("reached" if ok else "MISSED", " at most 1% refused, nothing lost in the rest")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {"functions": count, "refused": dict(refused), "lost": lost, "reached": ok}, indent=2
        )
    )
    return 1 if check and not ok else 0


if __name__ == "__main__":
    sys.exit(main())
