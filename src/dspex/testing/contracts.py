"""Contract suites that every implementation of a protocol must pass.

Subclass a suite in a test module and implement `make`; pytest runs it.
"""

import asyncio
from dataclasses import replace

import pytest

from dspex.errors import AdapterError, DspexError, ToolError
from dspex.execution.adapters import Adapter, StreamingAdapter
from dspex.execution.clients import LanguageModel, Request, ask
from dspex.execution.tools import Tool, ToolPolicy
from dspex.language.records import Message
from dspex.language.signatures import Signature

_REQUEST = Request(
    messages=(Message("system", "Answer in one word."), Message("user", "The capital of France?"))
)


class LanguageModelContract:
    """The contract of `LanguageModel` and `StreamingModel`; `make` returns one that replies."""

    def make(self) -> LanguageModel:
        """Return the model under test, new for each test."""
        raise NotImplementedError

    def run(self, *requests: Request) -> list[object]:
        """Send all requests at once, and close the model."""

        async def all_of_them() -> list[object]:
            model = self.make()
            try:
                return list(
                    await asyncio.gather(*(model.complete(request) for request in requests))
                )
            finally:
                await model.aclose()

        return asyncio.run(all_of_them())

    def test_it_has_a_name_and_declares_its_capabilities(self) -> None:
        """Both exist before the first call."""
        model = self.make()
        assert model.name
        assert isinstance(model.capabilities, frozenset)

    def test_it_answers_with_text_and_counts_one_call(self) -> None:
        """Usage is filled in, under the model's name."""

        async def once() -> None:
            model = self.make()
            response = await model.complete(_REQUEST)
            assert isinstance(response.text, str)
            assert response.usage.calls == 1
            assert response.usage.input_tokens > 0
            assert response.model == model.name
            await model.aclose()

        asyncio.run(once())

    def test_it_answers_many_at_once(self) -> None:
        """Concurrent calls do not disturb each other."""
        assert len(self.run(*[_REQUEST] * 5)) == 5

    def test_it_works_on_one_loop_after_another_and_after_closing(self) -> None:
        """No connection is tied to the first loop; a closed model can be used again."""
        model = self.make()

        async def twice() -> None:
            await model.complete(_REQUEST)
            await model.aclose()
            await model.complete(_REQUEST)
            await model.aclose()

        asyncio.run(twice())
        asyncio.run(twice())

    def test_pieces_of_a_stream_are_the_text_of_the_response(self) -> None:
        """Listeners get the whole text, whether the model streams or not."""

        async def stream() -> None:
            model, pieces = self.make(), list[str]()

            async def emit(piece: str) -> None:
                pieces.append(piece)

            response = await ask(model, _REQUEST, emit)
            assert "".join(pieces) == response.text
            assert response.usage.calls == 1
            await model.aclose()

        asyncio.run(stream())

    def test_a_cancelled_call_ends_and_the_next_one_works(self) -> None:
        """Cancelling leaves the model usable."""

        async def cancel_one() -> None:
            model = self.make()
            task = asyncio.create_task(model.complete(_REQUEST))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await model.complete(_REQUEST)).usage.calls == 1
            await model.aclose()

        asyncio.run(cancel_one())


class AdapterContract:
    """The contract of `Adapter`. `make` returns the adapter under test."""

    def make(self) -> Adapter:
        """Return the adapter."""
        raise NotImplementedError

    def contents(
        self, signature: Signature, demos: list[dict[str, object]], **inputs: object
    ) -> list[str]:
        """Return the texts of the rendered messages."""
        return [message.text for message in self.make().render(signature, demos, inputs).messages]

    def test_the_system_message_comes_first_and_the_input_last(self) -> None:
        """The order of messages is fixed."""
        prompt = self.make().render(
            Signature("question -> answer", "Be brief."), [], {"question": "Why 7?"}
        )
        assert prompt.messages[0].role == "system"
        assert "Be brief." in prompt.messages[0].text
        assert prompt.messages[-1].role == "user"
        assert "Why 7?" in prompt.messages[-1].text

    def test_incomplete_demonstrations_come_before_complete_ones(self) -> None:
        """Their original order does not matter."""
        demos: list[dict[str, object]] = [
            {"question": "complete-in", "answer": "complete-out", "n": 1},
            {"question": "partial-in", "answer": "partial-out"},
        ]
        text = "\n".join(
            self.contents(Signature("question -> answer, n: int"), demos, question="last-in")
        )
        places = [
            text.index(word)
            for word in ("partial-in", "partial-out", "complete-in", "complete-out", "last-in")
        ]
        assert places == sorted(places)
        assert "missing" in text

    def test_demonstrations_without_any_input_or_any_output_are_left_out(self) -> None:
        """They contain no example."""
        demos: list[dict[str, object]] = [
            {"question": "lonely"},
            {"answer": "orphan"},
            {"answer": None, "question": "nil"},
        ]
        text = "\n".join(self.contents(Signature("question -> answer"), demos, question="q"))
        assert not any(word in text for word in ("lonely", "orphan", "nil"))

    def test_rendering_twice_gives_the_same_bytes(self) -> None:
        """A prompt does not depend on time, hash order or earlier calls."""
        signature = Signature("a: list[str], b: dict[str, int] -> c, d: int")
        demos: list[dict[str, object]] = [{"a": ["x"], "b": {"k": 1, "j": 2}, "c": "y", "d": 3}]
        first = self.make().render(signature, demos, {"a": ["p", "q"], "b": {"z": 1, "y": 2}})
        equal_signature = Signature("a: list[str], b: dict[str, int] -> c, d: int")
        assert first == self.make().render(
            equal_signature, demos, {"a": ["p", "q"], "b": {"z": 1, "y": 2}}
        )

    def reply(self, signature: Signature, **outputs: object) -> str:
        """Return outputs as a demonstration shows them."""
        demo = {**dict.fromkeys(signature.input_fields, "q"), **outputs}
        inputs = dict.fromkeys(signature.input_fields, "r")
        messages = self.make().render(signature, [demo], inputs).messages
        return [message.text for message in messages if message.role == "assistant"][-1]

    def test_a_reply_in_the_layout_of_a_demonstration_is_read(self) -> None:
        """What a model is shown it may write."""
        signature = Signature("question -> answer, n: int, tags: list[str], more: dict[str, any]")
        outputs = {"answer": "<a> & [b]\n{c}", "n": 3, "tags": ["x", "y"], "more": {"k": [1]}}
        assert self.make().parse(signature, self.reply(signature, **outputs)) == outputs

    def test_a_streamed_reply_has_the_text_of_its_fields(self) -> None:
        """In chunks of any size; only adapters with a `splitter` stream."""
        adapter, signature = self.make(), Signature("question -> thought, answer")
        if not isinstance(adapter, StreamingAdapter):
            pytest.skip("this adapter does not stream")
        outputs = {"thought": "Is 1 < 2?\n\nIt is.", "answer": "yes & no"}
        reply = self.reply(signature, **outputs)
        for size in (1, 7, len(reply)):
            splitter, texts = adapter.splitter(signature), dict.fromkeys(outputs, "")
            chunks = [reply[start : start + size] for start in range(0, len(reply), size)]
            deltas = [delta for chunk in chunks for delta in splitter.feed(chunk)]
            for field, text in [*deltas, *splitter.end()]:
                texts[field] += text
            assert texts == outputs

    def test_nonsense_is_an_adapter_error_that_carries_the_reply(self) -> None:
        """`parse` raises nothing else."""
        for reply in ("", "nonsense", "\x00\udcff", "{]", "[[ ## ", "null"):
            with pytest.raises(AdapterError) as caught:
                self.make().parse(Signature("question -> answer: int, other: list[int]"), reply)
            assert isinstance(caught.value, DspexError)
            assert caught.value.context["reply"] == reply


class ToolContract:
    """The contract of `Tool`; `make` returns a tool that converts `text: str` to upper case."""

    def make(self) -> Tool:
        """Return the tool."""
        raise NotImplementedError

    def run(self, **arguments: object) -> object:
        """Call it once."""
        return asyncio.run(self.make().run(arguments))

    def test_its_spec_says_name_description_and_arguments(self) -> None:
        """The spec describes the tool to a model."""
        spec = self.make().spec()
        assert spec.name
        assert spec.description
        assert spec.parameters["required"] == ["text"]

    def test_it_gives_its_result(self) -> None:
        """Valid arguments are passed to the function."""
        assert self.run(text="hi") == "HI"

    def test_unfit_arguments_are_a_tool_error_with_the_fields(self) -> None:
        """The function is not called."""
        with pytest.raises(ToolError) as caught:
            self.run(text=["hi"], more=1)
        assert {error.field for error in caught.value.fields} == {"text", "more"}

    def test_what_is_not_permitted_is_not_called(self) -> None:
        """The permit hook decides."""
        guarded = replace(self.make(), policy=ToolPolicy(permit=lambda _name, _arguments: False))
        with pytest.raises(ToolError, match="not permitted"):
            asyncio.run(guarded.run({"text": "hi"}))
