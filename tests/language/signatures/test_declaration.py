import dataclasses
import enum
import json
import subprocess
import sys
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from dspex.errors import DefinitionError, SignatureError
from dspex.language.signatures import MISSING, Input, Output, Signature, Type, type_text
from dspex.language.signatures.converter import TABLE, TypeConverter
from dspex.language.signatures.grammar import parse_type
from dspex.language.signatures.kinds import KINDS


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where someone lives."""

    street: str = Field(description="with the number", min_length=1)
    city: str | None = None


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    depth: int


# in quotes it may be in the annotation too; linters read it as Python there
Vector = parse_type("embedding[dimensions=2]")


class Everything(Signature):
    """Read it all."""

    question: str
    schema: dict[str, int]
    limit: int = Input("how many", default=3, ge=0)
    address: Address = Output("where")
    color: Color = Output(default=Color.RED)
    tree: Node = Output()
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Output()
    point: Point = Output()
    options: Options = Output()
    note: Optional[str] = Output(max_length=5)  # noqa: UP045  # both spellings are read
    picture: "Image" = Output(alias="the-picture")  # type: ignore[name-defined]  # noqa: F821
    vector: Vector = Output()  # type: ignore[valid-type]


VALUES = {
    "address": {"street": "Main 1"}, "tree": {"value": 1, "children": [{"value": 2}]},
    "pet": {"kind": "dog", "name": "R"},
    "point": {"x": 1}, "options": {}, "note": None, "picture": {"url": "https://x"},
    "vector": [0.5, 1],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("question answer", 10, "expected ',' or '->'"),
        ("a: strr -> b", 4, "Did you mean 'str'?"),
        ("a: str[mn_length=3] -> b", 8, "Did you mean 'min_length'?"),
        ("a -> b: int = 'x'", 6, "the default of 'b' does not fit its type"),
        ("a -> b, a", 9, "two fields named 'a'"),
        ("a: list[int -> c", 13, "expected ',' or ']', but read '->'"),
        ("a: 'b -> c", 4, "the string is not closed"),
        ("a -> b: str[ge=3]", 13, "type 'str' has no constraint 'ge'"),
        ("a ->", 5, "but read the end"),
        ("-> a: int[ge=5, le=2]", 17, "leave no value"),
        ("lambda -> x", 1, "give alias='lambda'"),
        ("a -> b: Person{x: in}", 19, "Did you mean 'int'?"),
        ("a -> b: (Cat{kind: str} | Dog{kind: str})[tag='kind']", 43, "unique values"),
        ("a -> b: P{x: int = 'y'}", 6, "the default of member 'x' does not fit"),
        ("a -> b: dict[float, int]", 9, "the keys of a dict"),
        ("a -> remove", 6, "has the name of an operation"),
        ("a -> b: atom", 9, "needs its values"),
        ("a -> b: str[pattern='(']", 13, "a regular expression"),
        ("a -> b: str[format='emial']", 13, "Did you mean 'email'?"),
    ],
)
def test_a_wrong_declaration_says_where_and_why(text, column, reason):
    with pytest.raises(SignatureError) as caught:
        Signature(text)
    assert caught.value.context["column"] == column
    assert reason in caught.value.message
    excerpt, caret = caught.value.message.splitlines()[-2:]
    assert caret.index("^") == 2 + column - 1
    assert text in excerpt


def test_the_documented_forms_mean_what_they_say():
    signature = Signature(
        "name: str[min_length=2, max_length=50], score: int[min=0, lteq=100], grade: "
        "str[choices=['A','B']], "
        'n: int = 3, note: str? -> tags: list[str][min_items=1], p: probability "how sure", x: '
        "map, y: Optional[int]"
    )
    texts = {name: type_text(field.type) for name, field in signature.fields.items()}
    assert texts == {
        "name": "str[max_length=50, min_length=2]", "score": "int[ge=0, le=100]",
        "grade": "Literal['A', 'B']",
        "n": "int", "note": "str?", "tags": "list[str][min_items=1]", "p": "probability",
        "x": "dict", "y": "int?",
    }  # fmt: skip
    assert signature.fields["p"].desc == "how sure"
    assert signature.fields["n"].default == 3
    assert not signature.fields["note"].is_required


@pytest.mark.parametrize(
    "word", ["name", "schema", "json", "copy", "inputs", "outputs", "context", "keys", "items"]
)
def test_ordinary_words_are_legal_field_names(word):
    signature = Signature(f"{word} -> answer_{word}")
    assert signature.validate_inputs({word: "x"}) == {word: "x"}
    assert Signature.from_dict(signature.to_dict()) == signature


def test_the_class_form_and_the_string_form_are_equal_and_each_gives_the_other():
    again = Signature(str(Everything.with_instructions("Read it all.")))
    assert again == Signature.of(Everything)
    assert again.content_hash == Everything.content_hash
    assert Everything.fields["limit"].desc == "how many"
    assert Everything.fields["picture"].wire_name == "the-picture"


def test_values_are_instances_of_the_classes_that_were_declared():
    outputs = Everything.validate_outputs(VALUES)
    assert outputs["address"] == Address(street="Main 1")
    assert outputs["color"] is Color.RED
    assert outputs["tree"].children == [Node(value=2)]
    assert outputs["pet"] == Dog(kind="dog", name="R")
    assert outputs["point"] == Point(1.0)
    dumped = Everything.output_validator.dump(outputs)
    assert dumped == json.loads(json.dumps(dumped))
    assert Everything.validate_outputs(dumped, mode="strict") == outputs


@pytest.mark.bridge
def test_another_process_rebuilds_a_signature_without_its_code():
    stored = json.dumps(Everything.to_dict())
    code = (
        "import sys, json; from dspex.language.signatures import Signature\n"
        "s = Signature.from_dict(json.loads(sys.argv[1])); v = "
        "s.validate_outputs(json.loads(sys.argv[2]))\n"
        "inside = [v['address'].street, v['tree'].children[0].value]\n"
        "print(json.dumps([s.content_hash, s.output_validator.dump(v), *inside]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, stored, json.dumps(VALUES)], capture_output=True, check=True
    )
    content_hash, dumped, street, value = json.loads(ran.stdout)
    assert content_hash == Everything.content_hash
    assert dumped == Everything.output_validator.dump(Everything.validate_outputs(VALUES))
    assert (street, value) == ("Main 1", 2)


def test_the_hash_of_a_signature_never_changes():
    signature = Signature(
        'question, context: list[str] -> answer: str[max_length=9] "short", n: int?', "Answer."
    )
    assert (
        signature.content_hash == "fc3d631116d8915ad7c7319357690f100736466784e7e0fd64b2f2568698ff4b"
    )


def test_operations_return_new_signatures():
    base = Signature("question -> answer")
    assert (
        str(base.append("score", float, constraints={"ge": 0}))
        == "question: str -> answer: str, score: float[ge=0]"
    )
    assert (
        str(base.prepend("context", list[str], role="input"))
        == "context: list[str], question: str -> answer: str"
    )
    assert (
        str(base.insert(1, "why", desc="in short"))
        == 'question: str -> answer: str, why: str "in short"'
    )
    assert str(base.insert(0, "why")) == "question: str -> why: str, answer: str"
    assert str(base.insert(-1, "why")) == "question: str -> answer: str, why: str"
    assert str(base.append("x", int, default=3).remove("answer")) == "question: str -> x: int = 3"
    assert str(base.with_field("answer", int, desc="n")) == 'question: str -> answer: int "n"'
    assert str(base.append("x", int, default=3).with_field("x", default=MISSING)).endswith("x: int")
    assert (
        str(base.extend("hint -> score: int"))
        == "question: str, hint: str -> answer: str, score: int"
    )
    assert str(base.merge("question -> score: int")) == "question: str -> answer: str, score: int"
    assert str(base) == "question: str -> answer: str"
    for wrong, reason in [
        (lambda: base.remove("anser"), "Did you mean 'answer'?"),
        (lambda: base.merge("question: int -> score"), "have different fields 'question'"),
        (lambda: base.extend("question -> score"), "two fields named 'question'"),
        (lambda: base.insert(5, "x"), "cannot be inserted at 5"),
        (lambda: base.append("append"), "give alias='append'"),
        (lambda: base.append("x", int, default="y"), "does not fit its type"),
    ]:
        with pytest.raises(SignatureError, match=r"^.*") as caught:
            wrong()
        assert reason in caught.value.message


def test_a_stand_in_for_instructions_follows_the_fields():
    assert "`score`" in Signature("a -> b").append("score").instructions
    assert Signature("a -> b", "Do.").append("score").instructions == "Do."


def test_a_subclass_extends_and_a_class_says_what_is_wrong():
    class More(Everything):
        extra: int = Output()

    assert list(More.output_fields)[-1] == "extra"
    assert More.instructions == "Read it all."
    with pytest.raises(
        SignatureError, match=r"Wrong\.x: type 'int' has no constraint 'min_length'"
    ):
        type("Wrong", (Signature,), {"__annotations__": {"x": int}, "x": Output(min_length=3)})
    with pytest.raises(SignatureError, match=r"Wrong\.x has no type"):
        type("Wrong", (Signature,), {"x": Output()})
    with pytest.raises(SignatureError, match="Did you mean 'embedding'"):
        type("Wrong", (Signature,), {"__annotations__": {"x": "embeding"}, "x": Output()})


def test_further_types_go_by_the_names_they_are_given():
    signature = Signature(
        "a: Score -> b: list[Place]", types={"Score": "int[ge=0, le=10]", "Place": Address}
    )
    assert type_text(signature.fields["a"].type) == "int[ge=0, le=10]"
    assert signature.validate_outputs({"b": [{"street": "x"}]})["b"][0] == Address(street="x")
    assert Signature.from_dict(signature.to_dict()) == signature


def test_a_function_becomes_a_signature():
    def find(
        query: str, limit: Annotated[int, Field(ge=1)] = 3, *, color: Color = Color.BLUE
    ) -> list[str]:
        """Find things.

        Args:
            query: what to look for.
            limit: how many at most.
        """
        return [query] * limit

    signature = Signature.from_function(find)
    assert str(signature) == (
        'find(query: str "what to look for.", limit: int[ge=1] "how many at most." = 3, '
        "color: Literal['red', 'blue'] = 'blue' -> result: list[str]) \"Find things.\""
    )

    def place(query: str) -> Address:
        return Address(street=query)

    assert list(Signature.from_function(place).output_fields) == ["street", "city"]
    with pytest.raises(SignatureError, match="has no annotation"):
        Signature.from_function(lambda query: query)


def test_a_pydantic_model_becomes_a_signature():
    signature = Signature.from_pydantic(Address)
    assert str(signature) == (
        'Address(-> street: str[min_length=1] "with the number", city: str? = null) "Where '
        'someone lives."'
    )
    assert list(Signature.from_pydantic(Address, role="input").input_fields) == ["street", "city"]


def test_a_schema_becomes_a_signature_whose_names_can_stand():
    schema = {
        "title": "Trip", "type": "object", "required": ["from", "to day"],
        "properties": {"from": {"type": "string"}, "to day": {"$ref": "#/$defs/day"},
         "remove": {"type": "boolean"}},
        "$defs": {"day": {"enum": ["mon", "tue"]}},
    }  # fmt: skip
    signature = Signature.from_json_schema(schema)
    assert {name: field.wire_name for name, field in signature.fields.items()} == {
        "from_": "from", "to_day": "to day", "remove_": "remove",
    }  # fmt: skip
    assert signature.validate_outputs({"from": "x", "to day": "mon"}) == {
        "from_": "x",
        "to_day": "mon",
        "remove_": None,
    }
    tool = {"name": "trip", "description": "Plan.", "input_schema": schema}
    assert list(Signature.from_json_schema(tool).input_fields) == ["from_", "to_day", "remove_"]
    with pytest.raises(SignatureError, match="linear time"):
        Signature.from_json_schema({"properties": {"a": {"pattern": "b(?!a)"}}})


def test_the_converter_writes_and_reads_each_notation():
    convert = TypeConverter
    for text in [
        "int",
        "list[str]?",
        "dict[str, int[ge=0]]",
        "Literal['a', 1]",
        "P{x: int, y?: str}?",
        "int | str",
        "probability",
        "Image",
        "tuple[int, str]",
        "list[int][min_items=1]",
        "any",
    ]:
        type_ = convert.from_text(text)
        assert convert.from_python(convert.to_python(type_)) == type_
        assert convert.from_text(convert.to_text(type_)) == type_
    for text in [
        "int",
        "list[str]?",
        "dict[str, int[ge=0]]",
        "Literal['a', 'b']",
        "int | str",
        "tuple[int, str]",
    ]:
        type_ = convert.from_text(text)
        assert convert.from_json_schema(convert.to_json_schema(type_)) == type_
    for text, graphql in [
        ("int", "Int!"),
        ("list[str?]?", "[String]"),
        ("probability", "Probability!"),
        ("any", "JSON!"),
    ]:
        assert convert.to_graphql(convert.from_text(text)) == graphql
        assert convert.from_graphql(graphql) == convert.from_text(text)
    for text, dspy in [
        ("int", "int"),
        ("list[str]?", "Optional[list[str]]"),
        ("Image", "dspy.Image"),
        ("dict", "dict"),
    ]:
        assert convert.to_dspy(convert.from_text(text)) == dspy
        assert convert.from_dspy(dspy) == convert.from_text(text)
    for parse in (convert.from_python, convert.from_graphql, convert.from_dspy, convert.from_text):
        with pytest.raises(SignatureError):
            parse("no[thing")
    assert set(TABLE) <= set(KINDS)


def test_constraints_are_compared_as_written():
    assert Type("atom", constraints=(("one_of", (1,)),)) != Type(
        "atom", constraints=(("one_of", (True,)),)
    )


def test_any_annotation_that_pydantic_can_describe_is_a_type():
    import decimal
    import uuid

    signature = (
        Signature("a -> b")
        .append("d", decimal.Decimal)
        .append("u", uuid.UUID)
        .append("s", set[int])
    )
    outputs = signature.validate_outputs(
        {"b": "x", "d": "1.50", "u": str(uuid.UUID(int=3)), "s": [1, 2]}
    )
    assert (outputs["d"], outputs["u"], outputs["s"]) == (
        decimal.Decimal("1.50"),
        uuid.UUID(int=3),
        {1, 2},
    )
    with pytest.raises(SignatureError, match="no field type corresponds"):
        Signature("a -> b").append("x", print)
    assert Signature("a -> b").append("x", Any).fields["x"].type.kind == "any"


def _declared(**marks):
    hints = dict.fromkeys(("question", "answer"), str)
    return type("Ask", (Signature,), {"__annotations__": hints, "answer": Output(), **marks})


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (
            lambda: _declared(question=Input(5)),
            "signature 'Ask': the description of the field 'question' must be text, not 5",
        ),
        (
            lambda: _declared(answer=Output(list)),
            "the description of the field 'answer' must be text, not <class 'list'>",
        ),
        (
            lambda: _declared(answer=Output("short", alias=7)),
            "the alias of the field 'answer' must be text, not 7",
        ),
        (
            lambda: Signature("question -> answer").with_field("answer", desc=["x"]),
            "the description of the field 'answer' must be text, not ['x']",
        ),
        (
            lambda: Signature("question -> answer").append("why", role="inner"),
            "the role of the field 'why' must be 'input' or 'output', not 'inner'",
        ),
        (lambda: Signature("question -> answer", 5), "the instructions must be text, not 5"),
        (
            lambda: Signature("question -> answer").with_instructions(5),
            "the instructions must be text, not 5",
        ),
    ],
)
def test_what_must_be_text_is_text_and_errors_name_the_field(create, reason):
    with pytest.raises(SignatureError) as caught:
        create()
    assert reason in caught.value.message


def test_two_texts_for_one_field_are_refused_with_the_arguments_it_takes():
    with pytest.raises(DefinitionError, match="Output"):
        Output("in short", "in long")  # type: ignore[call-arg]
