"""The contract suite of retrievers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dspex.errors import InputError
from dspex.execution.retrieval import Retriever, Where
from dspex.language.records import Passage

DOCUMENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "lamps": ("You can return a lamp within thirty days.", {"topic": "returns", "year": 2021}),
    "sofas": ("A sofa can be returned within a week.", {"topic": "returns", "year": 2019}),
    "cards": ("We accept credit cards and bank transfers.", {"topic": "payment", "year": 2021}),
    "shops": ("Our shops open at nine in the morning.", {"topic": "hours"}),
}


class RetrieverContract:
    """The contract of `Retriever`. Subclass it and implement `make`; pytest runs it."""

    documents = DOCUMENTS
    """Text and metadata by key, which the retriever under test has to have."""

    def make(self) -> Retriever:
        """Return a retriever over `documents`, new for each test."""
        raise NotImplementedError

    def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> Sequence[Passage]:
        """Search once by a new retriever."""
        return list(asyncio.run(self._once(query, k, where)))

    async def _once(self, query: str, k: int, where: Any) -> Any:
        return await self.make().search(query, k, where)

    def test_it_has_a_name(self) -> None:
        """The name is in spans and messages."""
        assert self.make().name

    def test_the_best_passage_comes_first(self) -> None:
        """Scores order the passages."""
        passages = self.search("How long can I return a lamp?", 4)
        assert passages[0].document == "lamps"
        scores = [passage.score for passage in passages]
        assert scores == sorted(scores, reverse=True)

    def test_passages_are_slices_of_their_documents(self) -> None:
        """Each has a different id, the key of its document, offsets and metadata."""
        passages = self.search("return a lamp or a sofa")
        assert len({passage.id for passage in passages}) == len(passages)
        for passage in passages:
            text, metadata = self.documents[passage.document or ""]
            assert passage.text == text[passage.start : passage.end]
            assert metadata.items() <= passage.metadata.items()

    @pytest.mark.parametrize("k", [1, 2])
    def test_it_returns_at_most_k_passages(self, k: int) -> None:
        """Also if more match."""
        assert len(self.search("return a lamp or a sofa", k)) == k

    def test_filters_come_before_ranking(self) -> None:
        """A passage that is not among the best of all is found if only it meets the conditions."""
        passages = self.search("return a lamp within thirty days we", 1, {"topic": "payment"})
        assert [passage.document for passage in passages] == ["cards"]
        passages = self.search("return a lamp", 5, Where.parse({"year": {"lt": 2020}}))
        assert [passage.document for passage in passages] == ["sofas"]

    def test_conditions_that_nothing_meets_give_no_passages(self) -> None:
        """An empty result is not an error."""
        assert self.search("return a lamp", 5, {"topic": "none"}) == []

    @pytest.mark.parametrize(
        "query", ['" OR *', "a'b; DROP TABLE x --", "NEAR(", "\ud800 lamp", "%"]
    )
    def test_a_query_is_text_and_never_syntax(self, query: str) -> None:
        """Whatever it contains."""
        assert len(self.search(query)) <= len(self.documents)

    @pytest.mark.parametrize(
        ("query", "k", "where"),
        [("lamp", 0, None), ("lamp", -1, None), (" ", 5, None), ("lamp", 5, {"a": {"like": 1}})],
    )
    def test_invalid_values_are_refused(self, query: str, k: int, where: Any) -> None:
        """The error names the part."""
        with pytest.raises(InputError):
            self.search(query, k, where)

    def test_it_answers_many_at_once(self) -> None:
        """Concurrent searches do not disturb each other."""

        async def many() -> list[Any]:
            retriever = self.make()
            queries = ["return a lamp", "accept credit cards"] * 10
            return list(await asyncio.gather(*(retriever.search(text, 1) for text in queries)))

        results = asyncio.run(many())
        assert [result[0].document for result in results] == ["lamps", "cards"] * 10
