"""What type checkers know of a signature class: `tests/test_public_types.py` checks and runs it."""

from typing import Any, assert_type

from dspex.language.signatures import Field, Input, Output, Signature, Type


class QA(Signature):
    """Answer."""

    question: str
    limit: int = Input("how many", default=3, ge=0)
    answer: str = Output(max_length=9)
    tags: list[str] = Output(default=[])


assert_type(QA.with_instructions("x"), Signature)
assert_type(QA.append("why", int, desc="short").remove("why"), Signature)
assert_type(QA.validate_inputs({"question": "x"}, mode="strict"), dict[str, Any])
assert_type(QA.output_fields, dict[str, Field])
assert_type(QA.output_fields["answer"].type, Type)
assert_type(QA.content_hash, str)
assert_type(QA.to_json_schema("openai", purpose="outputs"), dict[str, Any])
assert_type(QA.typed_outputs({"answer": "x"}).answer, str)
assert_type(QA.typed_outputs({"answer": "x"}).tags, list[str])
assert_type(Signature.of(QA), Signature)
