"""Citations: the numbers that a model names become quotes of the passages in its inputs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dspex.errors import AdapterError, DefinitionError, FieldError, InputError
from dspex.execution.adapters.passages import is_passages, passages_text
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.adapters.turns import unreadable_reply
from dspex.execution.retrieval.sentences import sentence_spans
from dspex.language.records import Passage
from dspex.language.signatures import Signature, Type
from dspex.language.signatures.codec import plain
from dspex.language.signatures.content import Cited, CitedSource, CitedStatement
from dspex.language.signatures.types import Member, make, object_type, union

_MAX_SIGNATURES = 64


class CitationPlan(msgspec.Struct):
    """The outputs of a signature that cite, the inputs with passages, and signatures of calls."""

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    signatures: dict[tuple[int, int], Signature] = {}

    def call(self, signature: Signature, inputs: Mapping[str, Any]) -> "CitedCall":
        """Return what a call sends instead of the signature and its validated inputs."""
        passages = [passage for name in self.inputs for passage in inputs[name] or ()]
        sentences = [list(sentence_spans(passage.text)) for passage in passages]
        size = (len(passages), max(map(len, sentences), default=0))
        if size not in self.signatures:
            if len(self.signatures) >= _MAX_SIGNATURES:
                self.signatures.clear()
            self.signatures[size] = self._sized(signature, size)
        return CitedCall(
            plan=self,
            signature=self.signatures[size],
            inputs=self.shown_inputs(inputs),
            passages=passages,
            sentences=sentences,
        )

    def unbounded(self, signature: Signature) -> Signature:
        """Return what a call sends instead of the signature, whatever passages it gets."""
        return self._sized(signature, None)

    def _sized(self, signature: Signature, size: tuple[int, int] | None) -> Signature:
        for name in self.outputs:
            signature = signature.with_field(name, _cited_type(size))
        for name in self.inputs:
            signature = signature.with_field(name, "str")
        return signature

    def shown_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs with passages as text, with numbers for passages and sentences."""
        shown, first = dict(inputs), 1
        for name in self.inputs:
            if isinstance(passages := inputs.get(name), list):
                shown[name] = _numbered(passages, first)
                first += len(passages)
        return shown

    def demo(self, demo: Mapping[str, Any]) -> dict[str, Any]:
        """Return a demonstration as the model would answer it; stored ones have JSON passages."""
        passages = {
            name: [msgspec.convert(plain(item), Passage) for item in demo[name]]
            for name in self.inputs
            if isinstance(demo.get(name), list)
        }
        shown = self.shown_inputs({**demo, **passages})
        for name in self.outputs:
            if demo.get(name) is not None:
                shown[name] = _numbers(plain(demo[name]))
        return shown


class CitedCall(msgspec.Struct):
    """One call: its signature and inputs, and the passages that its numbers refer to."""

    plan: CitationPlan
    signature: Signature
    inputs: dict[str, Any]
    passages: list[Passage]
    sentences: list[list[tuple[int, int]]]

    def resolve(self, outputs: Mapping[str, Any], reply: str) -> dict[str, Any]:
        """Return the outputs with quotes, documents and offsets.

        Raises:
            AdapterError: a sentence does not exist, or a quote does not occur word for word.
        """
        errors: list[FieldError] = []
        resolved = dict(outputs)
        for name in self.plan.outputs:
            if outputs.get(name) is not None:
                statements = plain(outputs[name])["statements"]
                places = (f"{name}.statements[{n}]" for n in range(len(statements)))
                resolved[name] = Cited(
                    [
                        CitedStatement(item["text"], list(self._sources(item, place, errors)))
                        for item, place in zip(statements, places, strict=True)
                    ]
                )
        if errors:
            message = "; ".join(f"{error.path}: {error.message}" for error in errors)
            because = InputError(message, errors=errors)
            raise unreadable_reply(self.signature, reply, outputs, because=because)
        return resolved

    def _sources(
        self, statement: Mapping[str, Any], place: str, errors: list[FieldError]
    ) -> Iterator[CitedSource]:
        for n, source in enumerate(statement["sources"]):
            try:
                yield self._source(source)
            except AdapterError as error:
                path = f"{place}.sources[{n}]"
                errors.append(
                    FieldError(
                        field=place.partition(".")[0],
                        path=path,
                        value=source,
                        message=error.message,
                        constraint="citation",
                        expected="a place in the passages",
                    )
                )

    def _source(self, source: Mapping[str, Any]) -> CitedSource:
        number, sentence, quote = source["passage"], source.get("sentence"), source.get("quote")
        if quote and quote.strip():
            number, start, end = self._find(number, quote)
        elif sentence is None:
            start, end = 0, len(self.passages[number - 1].text)
        else:
            spans = self.sentences[number - 1]
            if sentence > len(spans):
                raise AdapterError(
                    f"passage {number} has {len(spans)} sentences, and {sentence} is not one of "
                    "them"
                )
            start, end = spans[sentence - 1]
        passage = self.passages[number - 1]
        offset = passage.start
        return CitedSource(
            passage=number,
            sentence=sentence,
            quote=passage.text[start:end],
            document=passage.document,
            version=passage.version,
            start=None if offset is None else offset + start,
            end=None if offset is None else offset + end,
        )

    def _find(self, number: int, quote: str) -> tuple[int, int, int]:
        """Return the passage, start and end of a quote: in passage `number`, or in another one."""
        pattern = re.compile(r"\s+".join(map(re.escape, quote.split())))
        numbers = [number, *(n for n in range(1, len(self.passages) + 1) if n != number)]
        for candidate in numbers:
            if match := pattern.search(self.passages[candidate - 1].text):
                return candidate, *match.span()
        raise AdapterError(
            f"the quote {quote[:200]!r} does not occur word for word in a passage; name the "
            "passage and the sentence instead, or copy the words exactly"
        )


def cite(signature: Signature, inputs: Mapping[str, Any]) -> CitedCall | None:
    """Return how a call with these validated inputs cites; None if it does not."""
    plan = _plan(signature)
    return None if plan is None else plan.call(signature, inputs)


def citation_plan(signature: Signature) -> CitationPlan | None:
    """Return how a signature cites, None if none of its outputs does.

    Raises:
        DefinitionError: an output cites, and no input has passages.
    """
    return _plan(signature)


def _compile(signature: Signature) -> CitationPlan | None:
    outputs = tuple(n for n, field in signature.output_fields.items() if _cites(field.type))
    inputs = tuple(n for n, field in signature.input_fields.items() if is_passages(field.type))
    if not outputs:
        return None
    if not inputs:
        raise DefinitionError(
            f"{outputs[0]!r} is of type Cited and has nothing to cite: add an input such as "
            "`passages: list[Passage]`, or use dspex.RAG, which adds it"
        )
    return CitationPlan(outputs=outputs, inputs=inputs)


_plan = SignatureCache(_compile)


def _cites(type_: Type) -> bool:
    return type_.kind == "Cited" or (type_.kind == "union" and any(map(_cites, type_.args)))


def _cited_type(size: tuple[int, int] | None) -> Type:
    """Return the type of what a model writes about so many passages and sentences, at most."""
    limits = [{} if size is None else {"le": max(number, 1)} for number in size or (0, 0)]
    number, sentence = [make("int", constraints={"ge": 1, **limit}) for limit in limits]
    text, none = make("str"), make("none")
    source = object_type(
        "Source",
        (
            Member("passage", number, desc="the number of a passage"),
            Member(
                "sentence",
                union(sentence, none),
                desc="the number of the sentence in the passage: 2 for 1.2",
                is_required=False,
                default=None,
            ),
            Member(
                "quote",
                union(text, none),
                desc="words of the passage, copied exactly; not needed beside a sentence",
                is_required=False,
                default=None,
            ),
        ),
    )
    rules = {"max_items": 0} if size is not None and not size[0] else {}
    statement = object_type(
        "Statement",
        (
            Member("text", text, desc="a sentence of the answer"),
            Member(
                "sources",
                make("list", source, constraints=rules),
                desc="what supports it",
                is_required=False,
                default=[],
            ),
        ),
    )
    return object_type("Cited", (Member("statements", make("list", statement)),))


def _numbered(passages: Sequence[Passage], first: int) -> str:
    texts = [
        "\n".join(
            f"{number}.{n} {passage.text[start:end]}"
            for n, (start, end) in enumerate(sentence_spans(passage.text), 1)
        )
        for number, passage in enumerate(passages, first)
    ]
    return passages_text(passages, texts, first=first)


def _numbers(cited: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `Cited` as JSON data with nothing but what a model writes."""
    return {
        "statements": [
            {
                "text": statement["text"],
                "sources": [
                    {name: source[name] for name in ("passage", "sentence") if source.get(name)}
                    for source in statement.get("sources", ())
                ],
            }
            for statement in cited["statements"]
        ]
    }
