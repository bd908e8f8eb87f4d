"""The signature language: a program's inputs, outputs and instructions.

Prompts, validators, schemas, database rows and API types are derived from a signature. Every room
may import this one, except `records` and `variables`.
"""

from dspex.language.signatures.conditions import FieldCheck
from dspex.language.signatures.field import Field, Input, Output
from dspex.language.signatures.json_schema import type_schema
from dspex.language.signatures.signature import Signature, SignatureLike
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import MISSING, Type
from dspex.language.signatures.validation import Mode, Validator

__all__ = [
    "MISSING",
    "Field",
    "FieldCheck",
    "Input",
    "Mode",
    "Output",
    "Signature",
    "SignatureLike",
    "Type",
    "Validator",
    "type_schema",
    "type_text",
]
