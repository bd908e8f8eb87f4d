"""Retrieve: the module that searches a collection."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import DefinitionError, InputError, RetrievalError, boundary
from dspex.execution.context import RunContext, current
from dspex.execution.effects import Passages, search_once
from dspex.execution.frame import payload
from dspex.execution.modules.code import CodeRoot
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.rerank import Rerank
from dspex.execution.modules.slot import Slot
from dspex.execution.modules.source import module_hash
from dspex.execution.retrieval import (
    Retriever,
    Searchable,
    SearchMode,
    SearchResult,
    Where,
    parse_chunker,
)
from dspex.execution.retrieval.retriever import MAX_K, Reranker, check_query
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Passage
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

PassageOrder = Literal["best first", "best last"]
ORDERS: Final[tuple[PassageOrder, ...]] = get_args(PassageOrder)
_SLOTS: Final = ("k", "mode", "weight", "chunking", "order", "candidates", "reranks", "rewrites")
_REWRITE = "question -> query"
_REWRITE_TASK = "Write the search query that finds the passages which answer the question."


@checks_names
class Retrieve(Module):
    """Searches a collection: from a query to `passages`.

    Every setting may be a variable; their slots are `config.k`, `config.mode` and so on. The module
    has a span of the kind retrieval with the ids and scores of the passages.
    """

    def __init__(
        self,
        collection: Searchable | Retriever | str | Variable,
        *,
        k: int | Variable = 5,
        mode: SearchMode | Variable = "hybrid",
        weight: float | Variable = 0.5,
        where: Mapping[str, Any] | None = None,
        chunking: Mapping[str, Any] | Variable | None = None,
        order: PassageOrder | Variable = "best first",
        rerank: Reranker | bool | Variable = False,
        rewrite: Module | bool | Variable = False,
        candidates: int | Variable = 20,
        query: str = "query",
    ) -> None:
        """Take what to search.

        Args:
            collection: a `Collection`, the name of a stored one, or any retriever.
            k: the maximum number of passages.
            mode: "lexical", "dense", "hybrid" or "whole"; see `Searchable.retriever`.
            weight: the share of the dense ranking in hybrid search, from 0 to 1.
            where: conditions on the metadata; see `Where.parse`.
            chunking: settings of a chunker instead of those of the collection in memory.
            order: whether the best passage comes first or last.
            rerank: whether to order the passages again: by a `Rerank`, or by another reranker.
            rewrite: whether to write a better query first: by a `Predict`, or by a module whose
                first input is the query and whose first output the new one.
            candidates: how many passages are searched for reranking.
            query: the name of the input.

        Raises:
            DefinitionError: a setting is invalid.
            InputError: the conditions are invalid.
        """
        values: dict[str, Any] = {
            "collection": collection,
            "k": k,
            "mode": mode,
            "weight": weight,
            "chunking": chunking,
            "order": order,
            "candidates": candidates,
            "reranks": rerank,
            "rewrites": rewrite,
        }
        self.where, self.query = where, query
        self.reranker: Reranker | None = _part(rerank, Rerank)
        self.rewriter: Module | None = _part(rewrite, _rewriter)
        self._declare(values)

    def _declare(self, values: Mapping[str, Any]) -> None:
        self._declared = {name: v for name, v in values.items() if isinstance(v, Variable)}
        values = {**values, **{name: v.default for name, v in self._declared.items()}}
        self.collection: Searchable | Retriever | str = values["collection"]
        self.k: int = values["k"]
        self.mode: SearchMode = values["mode"]
        self.weight: float = values["weight"]
        self.order: PassageOrder = values["order"]
        self.candidates: int = values["candidates"]
        self.chunking: Mapping[str, Any] | None = values["chunking"]
        self.reranks = values["reranks"] is not False
        self.rewrites = values["rewrites"] is not False
        Where.parse(self.where)
        for name, variable in self._declared.items():
            self.check_variable(variable, name, f"config.{name}")
        for name in _SLOTS:
            if expected := self.unfit(f"config.{name}", getattr(self, name)):
                raise DefinitionError(f"`{name}` of Retrieve takes {expected}")
        if not isinstance(self.collection, str | Searchable | Retriever):
            raise DefinitionError(
                "`collection` of Retrieve takes a Collection, the name of a stored one, or a "
                f"retriever (with `name` and `search`), not {shorten(self.collection)}"
            )
        is_plain = not isinstance(self.collection, str | Searchable)
        settings = (self.mode, self.weight, self.chunking)
        if is_plain and (settings != ("hybrid", 0.5, None) or self._declared.keys() & {"mode"}):
            raise DefinitionError(
                f"the retriever {shorten(self.collection)} has its own way to search; mode, weight "
                "and chunking are settings of collections"
            )

    def contract(self) -> Signature:
        """Return the signature: from the query to the passages."""
        return Signature.of(f"{self.query} -> passages: list[Passage]")

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Search once.

        Raises:
            InputError: the query is missing or empty.
            ModelError: the query could not be embedded.
            RetrievalError: the retriever failed.
        """
        context = current()
        query = inputs[self.query] if inputs.keys() == {self.query} else None
        if not isinstance(query, str):
            raise InputError(f"Retrieve takes one text, {self.query!r}, not {shorten(inputs)}")
        if self.rewrites and self.rewriter is not None:
            first = next(iter(self.rewriter.contract().input_fields))
            prediction = await self.rewriter.acall(**{first: query})
            query = str(next(iter(prediction.values())))
        reranker = self.reranker if self.reranks else None
        count = self.k if reranker is None else max(self.k, self.candidates)
        passages = await self._search(context, query, count)
        if reranker is not None:
            with boundary(RetrievalError, "the reranker"):
                passages = list(await reranker.rerank(query, passages))[: self.k]
        return {"passages": passages if self.order == "best first" else passages[::-1]}

    async def _search(self, context: RunContext, query: str, k: int) -> list[Passage]:
        name = self.collection if isinstance(self.collection, str) else self.collection.name
        span = context.begin("retrieval", name)
        if context.records_payloads:
            span.inputs = payload({"query": query, "k": k, "where": self.where})
        try:
            with boundary(RetrievalError, f"the retriever {name!r}"):
                result = await self._result(context, query, k)
                passages = list(result)
        except BaseException as error:
            span.end(error=error)
            raise
        attributes: dict[str, object] = {
            "ids": [passage.id for passage in passages],
            "scores": [passage.score for passage in passages],
            "documents": [passage.document for passage in passages],
            "mode": self.mode,
            "k": k,
        }
        if isinstance(result, SearchResult):
            attributes |= {"exact": result.exact, "scanned": result.scanned}
        span.end(
            usage=result.usage if isinstance(result, SearchResult) else None,
            attributes=attributes,
            outputs=payload(passages) if context.records_payloads else None,
        )
        return passages

    async def _result(self, context: RunContext, query: str, k: int) -> Passages:
        async def search() -> Passages:
            return await self._retriever(context).search(query, k, self.where)

        name = self.collection if isinstance(self.collection, str) else self.collection.name
        settings = {"mode": self.mode, "weight": self.weight, "chunking": self.chunking}
        request = {"name": name, "query": query, "k": k, "where": self.where, **settings}
        return await search_once(context, request, search)

    def _retriever(self, context: RunContext) -> Retriever:
        source = self.collection
        if isinstance(source, str):
            source = context.collection_for(source)
        if not isinstance(source, Searchable):
            return source
        embedder = source.embedder if self.mode != "lexical" else None
        return source.retriever(
            mode=self.mode,
            weight=self.weight,
            chunking=self.chunking,
            embedder=context.embedder_for(embedder) if isinstance(embedder, str) else None,
        )

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that write queries and rerank, if there are any."""
        for name in ("rewriter", "reranker"):
            if isinstance(part := getattr(self, name), Module):
                yield name, part

    def slots(self) -> Mapping[str, Slot]:
        """Return nothing: settings are variables only if they are declared."""
        return {}

    def own_variables(self, path: ModulePath) -> Sequence[Variable]:
        """Return the variables declared in the constructor."""
        places = [(path.place(f"config.{name}"), v) for name, v in self._declared.items()]
        return [variable.named(place, place) for place, variable in places]

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot."""
        name = slot.removeprefix("config.")
        return slot != name and (
            name in _SLOTS or (name == "collection" and isinstance(self.collection, str))
        )

    def setting(self, slot: str) -> Any:
        """Return a setting."""
        return getattr(self, slot.removeprefix("config.")) if self.takes(slot) else None

    def bind(self, slot: str, value: Any) -> None:
        """Set a setting."""
        if not self.takes(slot):
            super().bind(slot, value)
        setattr(self, slot.removeprefix("config."), value)

    def unfit(self, slot: str, value: object) -> str:
        """Return what a slot accepts instead of `value`, or an empty text if the value fits."""
        name = slot.removeprefix("config.")
        if name == "chunking":
            return _chunking_problem(value)
        if name in {"k", "mode", "weight"}:
            try:
                check_query("any", **{"k": 1, name: value})
            except InputError as error:
                return error.fields[0].expected + f", not {shorten(value)}"
            return ""
        if name == "candidates":
            fits = type(value) is int and 1 <= value <= MAX_K
            return "" if fits else f"a whole number from 1 to {MAX_K}, not {shorten(value)}"
        if name == "order":
            return "" if value in ORDERS else f"one of {', '.join(ORDERS)}, not {shorten(value)}"
        if name == "collection":
            return "" if isinstance(value, str) else f"a name, not {shorten(value)}"
        return self._switch_problem(name, value)

    def _switch_problem(self, name: str, value: object) -> str:
        if not isinstance(value, bool):
            return f"true or false, not {shorten(value)}"
        part = {"reranks": self.reranker, "rewrites": self.rewriter}[name]
        if value and part is None:
            return f"only false: Retrieve was declared without {name.removesuffix('s')}="
        return ""

    def shared(self) -> Sequence[object]:
        """Return what to search, and a reranker that is not a module."""
        return (self.collection, None if isinstance(self.reranker, Module) else self.reranker)

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        A collection or retriever at the top level of an imported file is stored by its import path,
        another collection by its name.

        Raises:
            DefinitionError: the retriever or the reranker can only be stored by an import path.
        """
        config: dict[str, Any] = {"collection": _reference(self.collection, path)}
        config |= {name: getattr(self, name) for name in (*_SLOTS, "where", "query")}
        children = {name: part.node(path.child(name)) for name, part in self.children()}
        if self.reranker is not None and "reranker" not in children:
            config["reranker"] = _reference(self.reranker, path)
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.contract(),
            config={name: value for name, value in config.items() if value is not None},
            children=children,
        )


def _part(value: object, default: Any) -> Any:
    if isinstance(value, bool | Variable):
        return None if value is False else default()
    return value


def _rewriter() -> Predict[Any]:
    return Predict(Signature(_REWRITE, _REWRITE_TASK))


def _chunking_problem(value: object) -> str:
    if value is None:
        return ""
    try:
        if isinstance(value, Mapping):
            parse_chunker(value)
            return ""
    except DefinitionError as error:
        return f"settings of a chunker: {error.message}"
    return f"settings of a chunker, not {shorten(value)}"


def _reference(value: object, path: ModulePath) -> str | dict[str, Any]:
    """Return a name or an import path with its source hash."""
    if isinstance(value, str):
        return value
    if (place := _import_place(value)) is not None:
        module_name, name = place
        return {"target": f"{module_name}:{name}", "source_hash": module_hash(module_name) or ""}
    if isinstance(value, Searchable):
        return value.name
    raise DefinitionError(
        f"{shorten(value)} of {str(path)!r} cannot be stored: assign it to a name at the top level "
        "of a file that is imported"
    )


def _import_place(value: object) -> tuple[str, str] | None:
    """Return the module and the name at its top level that hold an object."""
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__" or not getattr(module, "__file__", None):
            continue
        if names := [name for name, item in list(vars(module).items()) if item is value]:
            return module_name, names[0]
    return None


def _resolve(reference: str | Mapping[str, Any], code: CodeRoot | None) -> Any:
    if isinstance(reference, str):
        return reference
    if code is None:
        raise DefinitionError(
            f"the retriever {reference['target']} is code, and code is not loaded here"
        )
    return code.load(reference["target"])


def _build(node: Node, builder: NodeBuilder) -> Retrieve:
    config = dict(node.config)
    reranker = config.pop("reranker", None)
    reranks, rewrites = config.pop("reranks", False), config.pop("rewrites", False)
    module = Retrieve(_resolve(config.pop("collection"), builder.code), **config)
    if reranker is not None:
        module.reranker = _resolve(reranker, builder.code)
    elif "reranker" in node.children:
        module.reranker = builder.child(node, "reranker", Rerank)
    if "rewriter" in node.children:
        module.rewriter = builder.child(node, "rewriter", Module)
    module.reranks, module.rewrites = reranks, rewrites
    return module


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    if "collection" not in settings:
        raise DefinitionError("a program of the module retrieve needs the setting `collection`")
    query = next(iter(signature.input_fields), "query")
    return Retrieve(**{**settings, "query": query}).to_program(name)


SETTINGS: Final = (
    *("collection", "k", "mode", "weight", "where", "chunking", "order", "rerank", "rewrite"),
    "candidates",
)
KIND = ModuleKind(
    name="retrieve",
    summary="searches a collection for passages",
    build=_build,
    create=_create,
    settings=SETTINGS,
    code=functions_in("collection", "reranker"),
)
