"""What a predictor does beyond its first call: repair, assertions, limits, streaming."""

import asyncio
import contextlib

import pytest

import dspex
from dspex import Module, Predict
from dspex.errors import AdapterError, BudgetError, CheckError, ModelUnavailableError
from dspex.execution.adapters import ToolAdapter
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.clients import Budget
from dspex.execution.context import Cancellation, RunContext
from dspex.execution.modules import Assert, Suggest
from dspex.language.records import ToolCall
from dspex.telemetry import Collecting, FieldDelta, Finished, Partial, Status
from dspex.testing import FakeClock, ScriptedModel


def chat(**fields) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def test_a_reply_that_does_not_fit_is_sent_back_once_with_the_errors():
    model = ScriptedModel(chat(n="many"), chat(n="3"))
    prediction = Predict("q -> n: int")(RunContext(model=model), q="how many?")
    assert (prediction.n, prediction.fallback, prediction.usage.calls) == (3, None, 2)
    assert prediction.trace.spans[-1].attributes == {"repairs": 1}
    again = model.requests[1].messages
    assert again[: len(model.requests[0].messages)] == model.requests[0].messages
    assert (again[-2].role, again[-2].content) == ("assistant", chat(n="many"))
    assert "n: must be int" in again[-1].content


def test_repair_can_be_switched_off_and_is_bounded():
    off = ScriptedModel(chat(n="many"), '{"n": 3}')
    fallback = Predict("q -> n: int", repairs=0)(RunContext(model=off), q="q").fallback
    assert fallback is not None
    assert fallback.target == "json"
    never = ScriptedModel(chat(n="many"))
    with pytest.raises(AdapterError):
        Predict("q -> n: int", repairs=2)(RunContext(model=never), q="q")
    assert len(never.requests) == 4  # the first, two repairs, and JSON


def test_the_tools_adapter_gets_its_answer_by_a_tool_call():
    model = ScriptedModel(ToolCall("c", "answer", {"n": 3, "word": "x"}), capabilities=["tools"])
    assert dict(Predict("q -> n: int, word", adapter="tools")(RunContext(model=model), q="q")) == {
        "n": 3,
        "word": "x",
    }
    request = model.requests[0]
    assert (request.tools[0].name, request.tool_choice) == ("answer", "answer")
    assert request.tools[0].parameters["required"] == ["n", "word"]
    plain = ScriptedModel('{"n": 3, "word": "x"}')
    assert (
        Predict("q -> n: int, word", adapter=ToolAdapter())(RunContext(model=plain), q="q").n == 3
    )
    assert plain.requests[0].tools == ()


class Careful(Module):
    signature = "question -> answer"

    def __init__(self):
        self.think = Predict("question -> thought")
        self.answer = Predict("thought -> answer")

    async def forward(self, question):
        thought = await self.think.acall(question=question)
        result = await self.answer.acall(thought=thought.thought)
        Assert(len(result.answer) < 5, "be shorter", of=result)
        return result


def test_assert_asks_the_same_predictor_again_and_nothing_else():
    model = ScriptedModel(chat(thought="hm"), chat(answer="a long answer"), chat(answer="yes"))
    prediction = Careful()(RunContext(model=model), question="q")
    assert prediction.answer == "yes"
    assert len(model.requests) == 3
    messages = model.requests[2].messages
    assert "a long answer" in messages[-2].content
    assert "be shorter" in messages[-1].content
    assert prediction.usage.calls == 3
    assert prediction.trace.spans[-1].attributes == {
        "asserted_again": 1,
        "assertions": ["be shorter"],
    }


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ("chat", "[[ ## answer ## ]]\na long answer\n\n[[ ## completed ## ]]"),
        ("json", '{"answer": "a long answer"}'),
        ("tools", '{"answer": "a long answer"}'),
    ],
)
def test_assert_shows_the_earlier_answer_in_the_layout_of_the_adapter(adapter, expected):
    reply = '{"answer": "%s", "thought": "hm"}'
    texts = [
        chat(answer=text, thought="hm") if adapter == "chat" else reply % text
        for text in ("a long answer", "yes")
    ]
    model = ScriptedModel(texts[0], *texts)
    context = RunContext(model=model, adapter=ADAPTERS[adapter])
    assert Careful()(context, question="q").answer == "yes"
    assert [(turn.role, turn.content) for turn in model.requests[2].messages[-2:-1]] == [
        ("assistant", expected)
    ]


def test_assert_shows_an_answer_of_other_fields_as_it_is():
    class Outer(Module):
        def __init__(self):
            self.ask = Renaming()

        async def forward(self, question):
            result = await self.ask.acall(question=question)
            Assert(result.final == "yes", "say yes", of=result)
            return result

    class Renaming(Module):
        def __init__(self):
            self.ask = Predict("question -> answer")

        async def forward(self, question):
            return {"final": (await self.ask.acall(question=question)).answer}

    model = ScriptedModel(chat(answer="no"), chat(answer="yes"))
    assert Outer()(RunContext(model=model), question="q").final == "yes"
    assert model.requests[1].messages[-2].content == '{"final":"no"}'


def test_assert_gives_up_after_two_more_tries():
    model = ScriptedModel(chat(thought="hm"), chat(answer="a long answer"))
    with pytest.raises(CheckError, match="be shorter"):
        Careful()(RunContext(model=model), question="q")
    assert len(model.requests) == 4
    assert model.requests[3].messages[-1].content.count("be shorter") == 1
    assert sum("be shorter" in message.content for message in model.requests[3].messages) == 2


def test_assert_reaches_a_predictor_inside_a_module():
    class Outer(Module):
        signature = "question -> answer"

        def __init__(self):
            self.inner = Inner()

        async def forward(self, question):
            result = await self.inner.acall(question=question)
            Assert(result.answer == "yes", "say yes", of=result)
            return result

    class Inner(Module):
        def __init__(self):
            self.ask = Predict("question -> answer")

        async def forward(self, question):
            return await self.ask.acall(question=question)

    model = ScriptedModel(chat(answer="no"), chat(answer="yes"))
    assert Outer()(RunContext(model=model), question="q").answer == "yes"
    assert "say yes" in model.requests[1].messages[-1].content


def test_suggest_notes_it_and_goes_on():
    class Lenient(Module):
        def __init__(self):
            self.ask = Predict("q -> answer")

        async def forward(self, q):
            result = await self.ask.acall(q=q)
            Suggest(result.answer == "yes", "say yes", of=result)
            return result

    observer = Collecting()
    model = ScriptedModel(chat(answer="no"))
    assert Lenient()(RunContext(model=model, observer=observer), q="q").answer == "no"
    assert [(event.name, event.attributes) for event in observer.events] == [
        ("log", {"path": "ask"})
    ]


def test_a_budget_of_the_context_holds_for_everything_inside():
    budget = Budget(calls=1)
    model = ScriptedModel(chat(thought="x", answer="y"))
    with dspex.context(model=model, budget=budget), pytest.raises(BudgetError):
        Careful()(question="q")
    assert budget.spent.calls == 1


def test_a_deadline_that_has_passed_stops_the_next_call():
    clock = FakeClock()

    class Slow(ScriptedModel):
        async def complete(self, request):
            await clock.advance(2)
            return await super().complete(request)

    model = Slow(chat(thought="x", answer="y"))
    with pytest.raises(BudgetError, match="deadline") as caught:
        Careful()(RunContext(model=model, clock=clock).within(1.0), question="q")
    assert caught.value.context["limit"] == "time"
    assert len(model.requests) == 1


class Waits(ScriptedModel):
    def __init__(self):
        super().__init__("x", capabilities=["streaming"])
        self.begun = asyncio.Event()
        self.stopped = False

    async def complete(self, request):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True


def test_a_deadline_stops_a_call_under_way(go):
    async def main():
        model = Waits()
        with pytest.raises(BudgetError, match="deadline"):
            await Predict("q -> a").acall(RunContext(model=model).within(0.02), q="q")
        return model.stopped

    assert go(main())


def test_a_cancellation_stops_every_run_that_has_it(go):
    async def main():
        cancellation, models = Cancellation(), [Waits(), Waits()]
        tasks = []
        for model in models:
            with dspex.context(model=model, cancellation=cancellation):
                tasks.append(asyncio.create_task(Predict("q -> a").acall(q="q")))
        for model in models:
            await model.begun.wait()
        await asyncio.to_thread(cancellation.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await Predict("q -> a").acall(
                RunContext(model=models[0], cancellation=cancellation), q="q"
            )
        return [type(result) for result in results], [model.stopped for model in models]

    assert go(main()) == ([asyncio.CancelledError] * 2, [True] * 2)


async def collected(module, context, **inputs):
    return [event async for event in module.stream(context, **inputs)]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_chat_reply_streams_the_text_of_its_fields_wherever_it_is_torn(go, piece):
    reply = (
        "Sure.\n[[ ## thought ## ]]\nHm, [[ maybe ]] so\n\n[[ ## noise ## ]]\nzzz\n"
        "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
    )
    model = ScriptedModel(reply, capabilities=["streaming"], piece=piece)
    events = go(collected(Predict("q -> thought, answer"), RunContext(model=model), q="q"))
    text = {"thought": "", "answer": ""}
    for event in events:
        if isinstance(event, FieldDelta):
            text[event.field] += event.text
    assert text == {"thought": "Hm, [[ maybe ]] so", "answer": "Paris"}
    assert isinstance(events[-1], Finished)
    assert dict(events[-1].prediction) == text
    assert [event.state for event in events if isinstance(event, Status)] == ["begun", "done"]


@pytest.mark.parametrize("piece", [1, 7])
def test_a_json_reply_streams_texts_and_partial_objects(go, piece):
    reply = '{"answer": "Par\\"is", "items": [1, 2], "who": {"name": "Ada"}}'
    model = ScriptedModel(reply, capabilities=["streaming"], piece=piece)
    events = go(
        collected(
            Predict("q -> answer, items: list[int], who: dict", adapter="json"),
            RunContext(model=model),
            q="q",
        )
    )
    deltas = [event.text for event in events if isinstance(event, FieldDelta)]
    partials = [event.outputs for event in events if isinstance(event, Partial)]
    assert "".join(deltas) == 'Par"is'
    assert partials[-1] == {"answer": 'Par"is', "items": [1, 2], "who": {"name": "Ada"}}
    assert {"answer": "P"} in partials or piece > 1


def test_nested_modules_stream_under_their_paths(go):
    model = ScriptedModel(
        chat(thought="hm"), chat(answer="yes"), capabilities=["streaming"], piece=99
    )
    events = go(collected(Careful(), RunContext(model=model), question="q"))
    assert [(e.path, e.field) for e in events if isinstance(e, FieldDelta)] == [
        ("think", "thought"),
        ("answer", "answer"),
    ]


def test_a_second_attempt_begins_each_field_anew_and_says_so(go):
    model = ScriptedModel(chat(n="many"), chat(n="3"), capabilities=["streaming"], piece=99)
    events = go(collected(Predict("q -> n: int"), RunContext(model=model), q="q"))
    assert [(e.text, e.attempt) for e in events if isinstance(e, FieldDelta)] == [
        ("many", 1),
        ("3", 2),
    ]
    assert [e.state for e in events if isinstance(e, Status)] == ["begun", "again", "done"]


def test_a_model_that_cannot_stream_gives_one_piece(go):
    events = go(
        collected(
            Predict("q -> answer"), RunContext(model=ScriptedModel(chat(answer="yes"))), q="q"
        )
    )
    assert [e.text for e in events if isinstance(e, FieldDelta)] == ["yes"]


def test_leaving_the_loop_cancels_the_request(go):
    class Slow(Waits):
        async def stream(self, request, emit):
            await emit("[[ ## a ## ]]\nbegin")
            return await self.complete(request)

    async def main():
        model = Slow()
        async with contextlib.aclosing(
            Predict("q -> a").stream(RunContext(model=model), q="q")
        ) as events:
            async for event in events:
                if isinstance(event, FieldDelta):
                    await model.begun.wait()
                    break
        return model.stopped

    assert go(main())


def test_an_error_comes_after_the_events_before_it(go):
    async def main():
        events = []

        async def listen():
            context = RunContext(model=ScriptedModel(ModelUnavailableError("x")))
            async for event in Predict("q -> a").stream(context, q="q"):
                events.append(event)  # those before the error are wanted

        with pytest.raises(ModelUnavailableError):
            await listen()
        return events

    assert [type(event) for event in go(main())] == [Status]


def test_a_slow_listener_holds_the_model_back(go):
    async def main():
        count = 0

        class Fast(ScriptedModel):
            async def stream(self, request, emit):
                nonlocal count
                for _ in range(1000):
                    await emit("x" if count else "[[ ## a ## ]]\nx")
                    count += 1
                return await super().complete(request)

        model = Fast(chat(a="x"), capabilities=["streaming"])
        async with contextlib.aclosing(
            Predict("q -> a").stream(RunContext(model=model), q="q")
        ) as events:
            async for event in events:
                if isinstance(event, FieldDelta):
                    break
            for _ in range(500):
                await asyncio.sleep(0)
            return count

    assert go(main()) < 200
