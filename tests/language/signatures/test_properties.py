"""Random types, values and signatures, and what holds for all of them."""

import base64
import contextlib
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from dspex.errors import InputError, SignatureError
from dspex.language.signatures.builtin import expand
from dspex.language.signatures.field import Field
from dspex.language.signatures.grammar import parse_type
from dspex.language.signatures.kinds import FORMATS, KINDS
from dspex.language.signatures.signature import Signature
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import (
    MISSING,
    Member,
    Type,
    constrained_union,
    make,
    object_type,
    tagged,
    union,
)
from tests.support.properties import examples

words = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-1000, 1000)
numbers = st.one_of(
    integers, st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
)
# no anchors at the end: what "$" means differs between dialects, which has its own test
patterns = st.sampled_from(["^[a-z]+", "[0-9]", "^a|b", "^(ab)*", "x{1,3}", "é"])


def _bounds(draw, low, high, *, values):
    bounds = {}
    if draw(st.booleans()):
        bounds[low] = draw(values)
    if draw(st.booleans()):
        bounds[high] = draw(values)
    if low in bounds and high in bounds and bounds[low] >= bounds[high]:
        del bounds[high]
    return bounds


@st.composite
def strings(draw):
    rules = _bounds(draw, "min_length", "max_length", values=st.integers(0, 8))
    if draw(st.integers(0, 3)) == 0:
        rules["pattern"] = draw(patterns)
    return make("str", constraints=rules)


@st.composite
def numerics(draw):
    kind = draw(st.sampled_from(["int", "float"]))
    values = integers if kind == "int" else numbers
    names = draw(st.sampled_from([("ge", "le"), ("gt", "lt"), ("ge", "lt"), ("gt", "le")]))
    rules = _bounds(draw, *names, values=values)
    if kind == "int" and draw(st.integers(0, 4)) == 0:
        rules["multiple_of"] = draw(st.integers(1, 9))
    if kind == "float" and draw(st.integers(0, 4)) == 0:
        rules["precision"] = draw(st.integers(0, 5))
    if (
        rules.get("gt") is not None
        and rules.get("lt") is not None
        and rules["lt"] - rules["gt"] <= 1
    ):
        del rules["lt"]
    return make(kind, constraints=rules)


def _choices():
    return st.lists(st.one_of(texts, integers, st.booleans()), min_size=1, max_size=4).map(
        lambda values: make("atom", constraints={"one_of": values})
    )


plain_kinds = [
    kind
    for kind, row in KINDS.items()
    if row.group in {"ml", "media"} or kind in {"bool", "any", "binary", "none"}
]
scalars = st.one_of(
    strings(),
    numerics(),
    _choices(),
    st.sampled_from(plain_kinds).map(make),
    st.sampled_from(sorted(FORMATS)).map(lambda name: make("str", constraints={"format": name})),
    st.integers(1, 4).map(
        lambda size: make("embedding", constraints={"dimensions": size, "min_value": -1})
    ),
    st.integers(1, 4).map(lambda size: make("reasoning_chain", constraints={"max_steps": size})),
)


@st.composite
def lists(draw, inner):
    rules = _bounds(draw, "min_items", "max_items", values=st.integers(0, 4))
    items = draw(inner)
    # rounding may make two values one, which has its own test
    if "precision" not in type_text(items, full=True) and draw(st.integers(0, 5)) == 0:
        rules["unique"] = True
    return make("list", items, constraints=rules)


@st.composite
def mappings(draw, inner):
    key = draw(
        st.sampled_from([make("str"), make("int"), make("str", constraints={"min_length": 1})])
    )
    return make(
        "dict",
        key,
        draw(inner),
        constraints=_bounds(draw, "min_size", "max_size", values=st.integers(0, 4)),
    )


@st.composite
def objects(draw, inner):
    members = []
    for name in draw(st.lists(words, max_size=4, unique=True)):
        form = draw(st.sampled_from(["required", "absent", "none"]))
        type_ = draw(inner)
        if form == "none":
            members.append(
                Member(
                    name, union(type_, make("none")), draw(texts), is_required=False, default=None
                )
            )
        else:
            members.append(Member(name, type_, draw(texts), is_required=form == "required"))
    extra = draw(st.sampled_from([{}, {}, {"extra": "allow"}, {"extra": "forbid"}]))
    return object_type(
        draw(st.sampled_from(["", "Person", "Order"])), tuple(members), constraints=extra
    )


@st.composite
def trees(draw):
    """A recursive object."""
    members = (
        Member("value", draw(scalars)),
        Member("children", make("list", Type("ref", title="Tree")), is_required=False, default=[]),
    )
    return object_type("Tree", members)


@st.composite
def tagged_unions(draw, inner):
    parts = [
        object_type(
            title,
            (
                Member("kind", make("atom", constraints={"one_of": [title]})),
                Member("value", draw(inner)),
            ),
        )
        for title in ("Cat", "Dog")
    ]
    return tagged(union(*parts), "kind")


types = st.recursive(
    st.one_of(scalars, trees()),
    lambda inner: st.one_of(
        lists(inner),
        mappings(inner),
        objects(inner),
        tagged_unions(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: union(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: make("tuple", *parts)),
        inner.map(lambda part: union(part, make("none"))),
        inner.map(
            lambda part: (
                constrained_union(union(part, make("none")), {"required": True})
                if part.kind != "none"
                else part
            )
        ),
    ),
    max_leaves=8,
)


@st.composite
def _defaults(draw, type_):
    if draw(st.booleans()):
        return MISSING
    value = draw(values_of(type_))
    try:
        Signature.from_fields("S", [Field(name="x", type=type_, role="output", default=value)])
    except SignatureError:
        return MISSING
    return value


@st.composite
def signatures(draw):
    names = draw(
        st.lists(words.filter(lambda name: name not in _TAKEN), min_size=1, max_size=6, unique=True)
    )
    roles = [
        "output",
        *draw(
            st.lists(st.sampled_from(["input", "output"]), min_size=len(names), max_size=len(names))
        ),
    ]
    fields = []
    for name, role in zip(names, roles, strict=False):
        type_ = draw(types)
        default = draw(_defaults(type_))
        alias = f"{name}-wire" if draw(st.integers(0, 4)) == 0 else None
        fields.append(
            Field(name=name, type=type_, role=role, desc=draw(texts), default=default, alias=alias)
        )
    return Signature.from_fields(
        draw(st.sampled_from(["Signature", "QA", "a name"])), fields, draw(texts)
    )


_TAKEN = {name for name in vars(Signature) if not name.startswith("_")} | {
    "as", "if", "in", "is", "or", "and", "not", "for", "def", "del", "try", "from", "with", "else",
    "elif", "pass",
    "while", "class", "break", "yield", "async", "await", "raise", "assert", "except", "global",
    "import", "lambda",
    "return", "finally", "nonlocal", "continue",
}  # fmt: skip
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def as_json(value):
    """What a wire makes of a value."""
    return json.loads(json.dumps(value))


FORMAT_EXAMPLES = {
    "date-time": "2024-02-29T12:00:00Z", "date": "2024-02-29", "time": "12:00:00",
    "duration": "P1DT2H",
    "email": "a@b.co", "hostname": "example.org", "ipv4": "10.0.0.1", "ipv6": "::1",
    "uri": "https://example.org/",
    "uuid": "12345678-1234-1234-1234-123456789abc", "decimal": "1.50",
}  # fmt: skip


@st.composite
def values_of(draw, type_, enclosing=()):  # noqa: C901  # one case for each kind
    """JSON values, most of which are values of `type_`: at random, some part is something else."""
    if draw(st.integers(0, 24)) == 0:
        return draw(json_values)
    type_ = expand(type_)
    rules = dict(type_.constraints)
    match type_.kind:
        case "str":
            if "format" in rules:
                return FORMAT_EXAMPLES[rules["format"]]
            if "pattern" in rules:
                return draw(st.from_regex(rules["pattern"])).replace("\ud800", "")
            return draw(
                st.text(min_size=rules.get("min_length", 0), max_size=rules.get("max_length", 12))
            )
        case "int" | "float":
            low: Any = rules.get("ge", rules.get("gt", -50))
            high: Any = rules.get("le", rules.get("lt", 50))
            number = st.integers(int(low) - 1, max(int(high), int(low)) + 1)
            return draw(number | st.floats(low, max(high, low)) | number.map(float))
        case "bool":
            return draw(st.booleans())
        case "none":
            return None
        case "any":
            return draw(json_values)
        case "binary":
            return draw(st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode()))
        case "atom":
            return draw(st.sampled_from(rules["one_of"]))
        case "list":
            low = rules.get("min_items", 0)
            inner = values_of(type_.args[0], enclosing) if type_.args else json_values
            return draw(st.lists(inner, min_size=low, max_size=rules.get("max_items", low + 3)))
        case "tuple":
            return [draw(values_of(arg, enclosing)) for arg in type_.args]
        case "dict":
            keys = (
                st.integers(-9, 99).map(str)
                if type_.args and type_.args[0].kind == "int"
                else texts
            )
            inner = values_of(type_.args[1], enclosing) if type_.args else json_values
            low = rules.get("min_size", 0)
            return draw(
                st.dictionaries(keys, inner, min_size=low, max_size=rules.get("max_size", low + 3))
            )
        case "union":
            return draw(values_of(draw(st.sampled_from(type_.args)), enclosing))
        case "ref":
            target = next(part for part in reversed(enclosing) if part.title == type_.title)
            return (
                draw(values_of(target, enclosing))
                if draw(st.integers(0, 2))
                else {"value": None, "children": []}
            )
    result = {}
    for member in type_.members:
        if member.is_required or draw(st.booleans()):
            result[member.name] = draw(values_of(member.type, (*enclosing, type_)))
    if draw(st.integers(0, 9)) == 0:
        result["more"] = 1
    return result


usual = examples(
    100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
judge = jsonschema.Draft202012Validator


@usual
@given(signatures())
def test_a_signature_survives_string_dict_and_json(signature):
    for again in (Signature(str(signature)), Signature.from_dict(as_json(signature.to_dict()))):
        assert again == signature
        assert again.content_hash == signature.content_hash
        assert str(again) == str(signature)


@usual
@given(types)
def test_a_type_survives_its_text(type_):
    assert parse_type(type_text(type_, full=True)) == type_


@usual
@given(st.data(), types)
def test_what_the_schema_accepts_coercing_accepts_and_what_strict_accepts_satisfies_the_schema(
    data, type_
):
    signature = Signature.from_fields("S", [Field(name="x", type=type_, role="output")])
    schema = signature.to_json_schema()
    judge.check_schema(schema)
    value = {"x": data.draw(values_of(type_))}
    if judge(schema).is_valid(value):
        signature.validate_outputs(value)
    try:
        strict = signature.validate_outputs(value, mode="strict")
    except InputError:
        return
    dumped = as_json(signature.output_validator.dump(strict))
    judge(schema).validate(dumped)


@usual
@given(signatures())
def test_a_signature_is_read_back_from_its_own_schema(signature):
    again = Signature.from_json_schema(signature.to_json_schema())
    assert [field.wire_name for field in again.fields.values()] == [
        field.wire_name for field in signature.output_fields.values()
    ]


_WORDS = [
    *["->", ",", ":", "|", "?", "[", "]", "(", ")", "{", "}", "=", "str", "int", "list", "dict",
     "Literal", "'a'"],
    *["3", "a", "b", "ge", "min_length", "-", "as", "null", "_", "é"],
    "\\", "'", '"', "\n", "\ud800", "\x00",
]  # fmt: skip


@examples(400)
@given(st.one_of(st.text(), st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join)))
@example("a" * 5000)
@example("a -> b: " + "list[" * 5000)
@example("a -> b: " + "(" * 5000)
@example("a -> b: " + "{a:" * 5000)
@example("a -> b = " + "[" * 5000)
@example("a -> b: int = " + "9" * 5000)
@example("a -> b: int[ge=" + "9" * 400 + ".5]")
@example("a -> b: str[pattern='" + "(" * 3000 + "']")
@example("a -> b: float = 1e999")
@example("a -> b: str[pattern='(?P<a>x)(?P<a>y)']")
@example("a -> b: float[ge=" + "9" * 400 + "]")
def test_no_text_makes_the_parser_raise_anything_but_its_own_error(text):
    refusal: SignatureError | None = None
    try:
        signature = Signature(text)
    except SignatureError as error:
        refusal = error
    if refusal is not None:
        assert "column" in refusal.context
        return
    assert Signature(str(signature)) == signature


@examples(150)
@given(json_values)
def test_no_data_makes_from_dict_or_from_json_schema_raise_anything_but_a_signature_error(data):
    candidates = [
        data,
        {"name": "a", "fields": data},
        {"name": "a", "fields": [{"name": "x", "role": "output", "type": data}]},
    ]
    for candidate in candidates:
        with pytest.raises(SignatureError):
            Signature.from_dict(candidate)
    for schema in (
        data,
        {"type": "object", "properties": {"x": data}},
        {"type": "object", "properties": data},
    ):
        with contextlib.suppress(SignatureError):
            Signature.from_json_schema(schema)
