"""How many JSON Schemas become signatures, and do these judge values like the schemas?

FOLDER holds JSON files: public test suites (a list of `{"description", "schema", "tests": [{"data",
"valid"}]}`, as in the JSON-Schema-Test-Suite; a folder name marks drafts other than 2020-12),
and plain schemas, one per file.

Each schema of a suite is read twice: as fields, one for each property, and as one field that holds
the whole. In strict mode the verdict must be that of the suite. In coercing mode a valid value must
be accepted, and an accepted value must be valid afterwards. For a plain schema, random values are
judged by `jsonschema-rs` from the unchanged file.

    pip download --no-binary jsonschema --no-deps jsonschema   # contains the suite: json/tests
    python benchmarks/json_schema.py --data FOLDER [--quick] [--check]
"""

import argparse
import collections
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import jsonschema_specifications

from dspex.errors import InputError, SignatureError
from dspex.language.signatures import Signature
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.limits import LIMITS

RESULTS = Path(__file__).parent / "results" / "json_schema.json"
GOAL_SUITE, GOAL_REAL = 0.75, 0.92
WORDS = {
    "type",
    "properties",
    "$ref",
    "anyOf",
    "oneOf",
    "allOf",
    "enum",
    "items",
    "patternProperties",
    "additionalProperties",
}
SOME_VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    2.5,
    "",
    "a",
    "2020-01-01",
    [],
    [1],
    ["a", "a"],
    {},
    {"a": 1},
    {"name": "x"},
]


@dataclass
class Tally:
    """The results of one collection."""

    schemas: int = 0
    refused: "collections.Counter[str]" = field(default_factory=collections.Counter)
    examples: dict[str, str] = field(default_factory=dict)
    verdicts: "collections.Counter[str]" = field(default_factory=collections.Counter)
    documented: "collections.Counter[str]" = field(default_factory=collections.Counter)
    providers: "collections.Counter[str]" = field(default_factory=collections.Counter)
    lost: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=lambda: {"strict": [], "coerce": []})

    @property
    def accepted(self) -> float:
        return 1 - self.refused.total() / max(self.schemas, 1)

    def refuse(self, reason: str, place: str) -> None:
        word = reason.split(": ", 1)[0] if reason.startswith("#") else ""
        short = reason.removeprefix(f"{word}: ")[:60]
        self.refused[short] += 1
        self.examples.setdefault(short, f"{place}: {reason[:200]}")


@dataclass(frozen=True)
class Case:
    """One schema, and values with what is to be said of them."""

    place: str
    schema: Any
    tests: list[tuple[str, Any, bool]]
    reference: Any = None
    resources: Mapping[str, Any] = field(default_factory=dict)


def drafts() -> dict[str, Any]:
    """Return the schemas of the drafts by their URIs."""
    return {
        str(uri): resource.contents for uri, resource in jsonschema_specifications.REGISTRY.items()
    }


def remotes(folder: Path) -> dict[str, Any]:
    """Return the schemas of the suite's folder `remotes` and those of the drafts, by URI."""
    resources = drafts()
    for file in folder.rglob("remotes/**/*.json"):
        parts = file.parts[file.parts.index("remotes") + 1 :]
        resources[f"http://localhost:1234/{'/'.join(parts)}"] = json.loads(file.read_text())
    return resources


def collect(folder: Path) -> tuple[list[Case], list[Path], list[Path]]:
    """Return suite cases, files that may be plain schemas, and files with only definitions."""
    resources = remotes(folder)
    cases: list[Case] = []
    schemas: list[Path] = []
    libraries: list[Path] = []
    for file in sorted(folder.rglob("*.json")):
        parts = {part for part in file.relative_to(folder).parts if part.startswith("draft")}
        if (
            not file.is_file()
            or {"optional", "remotes", "output-tests"} & set(file.parts)
            or file.stat().st_size > 4_000_000
        ):
            continue
        try:
            data = json.loads(file.read_text())
        except (ValueError, UnicodeDecodeError, RecursionError):
            continue
        if (
            isinstance(data, list)
            and data
            and all(isinstance(row, dict) and "tests" in row for row in data)
        ):
            for row in () if parts - {"draft2020-12"} else data:
                tests = [
                    (test["description"], test["data"], test["valid"]) for test in row["tests"]
                ]
                cases.append(
                    Case(
                        f"{file.name}: {row['description']}",
                        row["schema"],
                        tests,
                        resources=resources,
                    )
                )
        elif isinstance(data, dict) and WORDS & data.keys():
            schemas.append(file)
        elif isinstance(data, dict) and {"$defs", "definitions"} & data.keys():
            libraries.append(file)
    return cases, schemas, libraries


def without_formats(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: without_formats(value)
            for key, value in schema.items()
            if key != "format" or str(value) not in FORMATS
        }
    return [without_formats(item) for item in schema] if isinstance(schema, list) else schema


def whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read(case: Case, form: str) -> Signature:
    field_name = "value" if form == "whole" else ""
    return Signature.from_json_schema(case.schema, field=field_name, resources=case.resources)


def plain_resources(case: Case) -> dict[str, Any]:
    """Return what the references of a schema lead to, without formats."""
    text = json.dumps(case.schema)
    return {
        uri: without_formats(schema)
        for uri, schema in case.resources.items()
        if "json-schema.org" in uri or uri.rpartition("/")[2] in text
    }


def is_whole(case: Case, signature: Signature, form: str) -> bool:
    """Whether one field holds the whole value."""
    properties = case.schema.get("properties", {}) if isinstance(case.schema, dict) else {}
    return form == "whole" or (
        list(signature.output_fields) == ["value"] and "value" not in properties
    )


def verdict(signature: Signature, data: Any, mode: Any, *, whole: bool) -> tuple[bool, Any]:
    """Return whether `data` is accepted, and what came out."""
    values = {"value": data} if whole else data
    if not isinstance(values, Mapping):
        return False, None
    by_wire = {field.wire_name: name for name, field in signature.output_fields.items()}
    try:
        outputs = signature.validate_outputs(
            {by_wire.get(key, key): value for key, value in values.items()}, mode=mode
        )
    except InputError:
        return False, None
    dumped = signature.output_validator.dump(outputs)
    fields = signature.output_fields
    dumped = {
        fields[name].wire_name: value
        for name, value in dumped.items()
        if value is not None or fields[name].is_required
    }
    return True, dumped["value"] if whole else dumped


def exception(signature: Signature, case: Case, data: Any, *, valid: bool, whole: bool) -> str:
    """Return the documented reason why the verdict on `data` may differ, or an empty text."""
    names = {field.wire_name: field for field in signature.output_fields.values()}
    if not whole:
        if not isinstance(data, dict):
            return "fields make an object"
        if data.keys() - names.keys():
            return "no properties exist beside the fields"
        if any(value is None and not names[name].is_required for name, value in data.items()):
            return "null omits a field"
    text = json.dumps(case.schema)
    resources = plain_resources(case)
    if '"format"' in text or '"$ref"' in text:
        try:
            plain = read(
                replace(case, schema=without_formats(case.schema), resources=resources), "whole"
            )
        except SignatureError:
            return ""
        if verdict(plain, data, "strict", whole=True)[0] == valid:
            return "formats are rules"
    if (
        "draft-04" in text
        and case.reference is not None
        and case.reference.is_valid(whole_numbers(data)) != valid
    ):
        return "1.0 is a whole number in every draft"
    if isinstance(case.schema, dict) and "metaschema" in str(case.schema.get("$schema")):
        return "a custom vocabulary is ignored"
    return ""


def judge(case: Case, form: str, tally: Tally) -> None:
    """Count one schema in one form."""
    try:
        signature = read(case, form)
    except SignatureError as error:
        if form == "fields":
            tally.refuse(error.message, case.place)
        return
    survive(signature, case, form, tally)
    if form == "fields":
        for provider in ("openai", "anthropic", "gemini", "mcp"):
            tally.providers[f"{provider}: {request_form(signature, provider)}"] += 1
    whole = is_whole(case, signature, form)
    for name, data, valid in case.tests:
        strict, _ = verdict(signature, data, "strict", whole=whole)
        coerced, outputs = verdict(signature, data, "coerce", whole=whole)
        tally.verdicts[form] += 1
        coerced_is_right = coerced if valid else not coerced or is_valid(case, outputs)
        if strict == valid and coerced_is_right:
            continue
        if reason := exception(signature, case, data, valid=valid, whole=whole):
            tally.documented[reason] += 1
            continue
        text = (
            f"{form}: {case.place}: {name}: {json.dumps(data)[:100]} is "
            f"{'valid' if valid else 'invalid'}"
        )
        if strict != valid:
            tally.wrong["strict"].append(text)
        if not coerced_is_right:
            tally.wrong["coerce"].append(text)


def request_form(signature: Signature, provider: str) -> str:
    """Return the form in which a provider is sent the outputs' schema."""
    try:
        request = signature.to_json_schema(provider, purpose="structured")
    except SignatureError:
        return "refused"
    if provider != "openai":
        return "asked"
    return "strict" if request["json_schema"]["strict"] else "not strict"


def survive(signature: Signature, case: Case, form: str, tally: Tally) -> None:
    """Store the signature as data, text and schema, read each back, and record differences."""
    forms = {"data": Signature.from_dict(json.loads(json.dumps(signature.to_dict())))}
    try:
        if len(str(signature)) <= LIMITS["text"].most:
            forms["text"] = Signature(str(signature))
        exported = signature.to_json_schema()
        again = Signature.from_json_schema(exported)
        judge = jsonschema_rs.Draft202012Validator(exported, offline=True, validate_formats=False)
    except (SignatureError, ValueError) as error:
        tally.lost.append(f"{form}: {case.place}: {error!s:.200}")
        return
    for name, copy in forms.items():
        if copy != signature or copy.content_hash != signature.content_hash:
            tally.lost.append(f"{form}: {case.place}: as {name} it is not equal")
    for name, data, _ in case.tests:
        whole = is_whole(case, signature, form)
        before = verdict(signature, data, "strict", whole=whole)[0]
        values = {"value": data} if whole else data
        if before != verdict(again, data, "strict", whole=whole)[0] or (
            before and not judge.is_valid(values)
        ):
            tally.lost.append(
                f"{form}: {case.place}: {name}: another verdict after export to a schema"
            )


def is_valid(case: Case, value: Any) -> bool:
    reference = case.reference or jsonschema_rs.Draft202012Validator(
        case.schema, retriever=lambda uri: case.resources[uri.rstrip("#")]
    )
    try:
        return bool(reference.is_valid(value))
    except ValueError:
        return False


def values_for(schema: Any, chance: random.Random, root: Any, depth: int = 0) -> Any:  # noqa: C901
    """Return a random value for `schema`; some of its parts may not fit."""
    if depth > 6 or not isinstance(schema, dict) or chance.random() < 0.08:
        return chance.choice(SOME_VALUES)
    if isinstance(schema.get("$ref"), str) and schema["$ref"].startswith("#/"):
        target = root
        for key in schema["$ref"].split("/")[1:]:
            target = (
                target.get(key.replace("~1", "/").replace("~0", "~"), {})
                if isinstance(target, dict)
                else {}
            )
        return values_for(target, chance, root, depth + 1)
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return chance.choice(schema[key])
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    for key in ("oneOf", "anyOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key] and "properties" not in schema:
            return values_for(chance.choice(schema[key]), chance, root, depth + 1)
    kinds = schema.get("type", "object" if "properties" in schema else None)
    match chance.choice(kinds) if isinstance(kinds, list) and kinds else kinds:
        case "object":
            value = {
                name: values_for(part, chance, root, depth + 1)
                for name, part in (schema.get("properties") or {}).items()
                if name in (schema.get("required") or [])
                or chance.random() < 2 / (len(schema["properties"]) + 1)
            }
            return value | ({"x-more": 1} if chance.random() < 0.1 else {})
        case "array":
            items = schema.get("items", {})
            return [values_for(items, chance, root, depth + 1) for _ in range(chance.randint(0, 2))]
        case "string":
            return chance.choice(["a", "abc", "2020-01-01", "https://example.org", "", "x" * 40])
        case "integer" | "number":
            return chance.choice([0, 1, 3, 10, schema.get("minimum", 5), 2.0])
        case "boolean":
            return chance.random() < 0.5
        case "null":
            return None
    return chance.choice(SOME_VALUES)


def resources_of(files: list[Path]) -> dict[str, Any]:
    """Return the schemas of a collection by their declared URIs, and those of the drafts."""
    resources = drafts()
    for file in files:
        schema = json.loads(file.read_text())
        for key in ("$id", "id"):
            if isinstance(schema.get(key), str) and schema[key].partition("#")[0]:
                resources.setdefault(schema[key].partition("#")[0], schema)
        for at, part in enumerate(file.parts):
            if "." in part:  # a collection whose folders mirror addresses
                resources.setdefault(f"https://{'/'.join(file.parts[at:])}", schema)
        resources.setdefault(file.name, schema)
        resources.setdefault(f"/{file.parent.name}/{file.name}", schema)
        resources.setdefault(f"https://json.schemastore.org/{file.name}", schema)
        resources.setdefault(f"https://json.schemastore.org/{file.stem}", schema)
        resources.setdefault(f"http://json.schemastore.org/{file.stem}", schema)
    return resources


def plain_cases(
    files: list[Path], folder: Path, tally: Tally, *, count: int, resources: Any
) -> Iterator[Case]:
    """Yield each plain schema with values made at random, as `jsonschema-rs` judges them."""
    for file in files:
        schema = json.loads(file.read_text())
        place = str(file.relative_to(folder))
        chance = random.Random(place)  # values to try, no secrets
        try:
            reference = jsonschema_rs.validator_for(
                schema, retriever=lambda uri: resources[uri.rstrip("#")], validate_formats=False
            )
            values = [values_for(schema, chance, schema) for _ in range(count)]
            tests = [
                (str(at), value, bool(reference.is_valid(value))) for at, value in enumerate(values)
            ]
        except (ValueError, KeyError, jsonschema_rs.ReferencingError, RecursionError):
            reference, tests = None, []
            tally.verdicts["schemas without a reference to judge by"] += 1
        yield Case(place, schema, tests, reference, resources)


def report(name: str, tally: Tally, goal: float, seconds: float) -> bool:
    print(f"{name}: {tally.schemas} schemas, {tally.accepted:.1%} accepted, in {seconds:.1f} CPU s")
    for reason, times in tally.refused.most_common(12):
        print(f"  refused {times:5} x {reason}   ({tally.examples[reason][:160]})")
    print(f"  verdicts: {dict(tally.verdicts)}; documented: {dict(tally.documented)}")
    for mode, texts in tally.wrong.items():
        print(f"  wrong in {mode} mode: {len(texts)}")
        for text in texts[:15]:
            print(f"    {text[:230]}")
    print(f"  as requests: {dict(sorted(tally.providers.items()))}")
    print(f"  not the same after storing and reading back: {len(tally.lost)}")
    for text in tally.lost[:15]:
        print(f"    {text[:230]}")
    ok = (
        tally.accepted >= goal
        and not tally.wrong["strict"]
        and not tally.wrong["coerce"]
        and not tally.lost
    )
    print(
        "reached" if ok else "MISSED",
        f" at least {goal:.0%} accepted, no wrong verdict, nothing lost",
    )
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder with the JSON files")
    parser.add_argument("--quick", action="store_true", help="only every tenth schema")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    folder = Path(options.data)
    step = 10 if options.quick else 1
    cases, files, libraries = collect(folder)
    results, is_right = {}, True
    for name, goal, count in (
        ("suite", GOAL_SUITE, len(cases)),
        ("schemas", GOAL_REAL, len(files)),
    ):
        if not count:
            continue
        tally, start = Tally(), time.process_time()
        rows = (
            iter(cases[::step])
            if name == "suite"
            else plain_cases(
                files[::step], folder, tally, count=20, resources=resources_of([*files, *libraries])
            )
        )
        for case in rows:
            tally.schemas += 1
            judge(case, "fields", tally)
            judge(case, "whole", tally)
        is_right &= report(name, tally, goal, time.process_time() - start)
        results[name] = {
            "schemas": tally.schemas, "accepted": tally.accepted, "refused": dict(tally.refused),
            "verdicts": dict(tally.verdicts), "documented": dict(tally.documented),
            "wrong": tally.wrong,
            "lost": tally.lost,
            "providers": dict(tally.providers),
        }  # fmt: skip
    if not results:
        print(f"skipped: no schemas below {folder}")
        return 0
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2))
    return 1 if options.check and not is_right else 0


if __name__ == "__main__":
    sys.exit(main())
