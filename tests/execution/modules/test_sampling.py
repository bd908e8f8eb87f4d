"""Modules that run a module several times: what they send, choose and tell, and how they fail."""

import random
from typing import Any

import pytest

import dspex
from dspex.errors import CheckError, DefinitionError, ExecutionError, InputError, ModelError
from dspex.execution.backends import IsolatedBackend
from dspex.execution.clients import Request
from dspex.execution.clients.caching import Caching
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module, Predict, ReAct, Retry
from dspex.execution.modules.builder import build
from dspex.language.programs import Program
from dspex.language.records import ToolCall
from dspex.modules import (
    BestOfN,
    Ensemble,
    Majority,
    MultiChainComparison,
    Parallel,
    Refine,
    most_frequent,
)
from dspex.testing import ScriptedModel


def chat(**outputs: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in outputs.items())


def length(_inputs: Any, prediction: dspex.Prediction) -> float:
    return len(str(prediction.answer))


def prompt_of(request: Request) -> str:
    return str(request.messages[-1].content)


def answers(*texts: str, **options: Any) -> ScriptedModel:
    return ScriptedModel(*(chat(answer=text) for text in texts), **options)


ASK = "question -> answer"


def test_best_of_n_returns_the_best_of_all_attempts() -> None:
    model = answers("a", "abc", "ab")
    best = BestOfN(Predict(ASK), reward=length, n=3)
    prediction = best(RunContext(model=model), question="?")
    assert prediction.answer == "abc"
    assert prediction.usage.calls == 3
    assert len({request.rollout for request in model.requests}) == 3


def test_best_of_n_stops_at_the_threshold() -> None:
    model = answers("a", "abc", "ab")
    best = BestOfN(Predict(ASK), reward=length, n=3, threshold=3)
    assert best(RunContext(model=model), question="?").answer == "abc"
    assert len(model.requests) == 2


def test_the_reward_is_an_output_or_a_module() -> None:
    rated = "question -> answer, score: float"
    model = ScriptedModel(chat(answer="a", score=0.2), chat(answer="b", score=0.7))
    by_output = BestOfN(Predict(rated), reward="score", n=2)
    assert by_output(RunContext(model=model), question="?").answer == "b"

    judge_model = ScriptedModel(chat(quality=0.9), chat(quality=0.1))
    judge = Predict("question, answer -> quality: probability", model=judge_model)
    by_module = BestOfN(Predict(ASK), reward=judge, n=2, threshold=0.95)
    assert by_module(RunContext(model=answers("a", "b")), question="?").answer == "a"
    assert "[[ ## answer ## ]]\na" in prompt_of(judge_model.requests[0])
    assert not [name for name in by_module.variables() if "reward" in name]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("missing", "'missing' is not an output"),
        ("answer", "'answer' is not an output that is a number"),
        (Predict("answer -> text"), "has no output that is a number"),
        (3, "a reward is a function"),
    ],
)
def test_a_reward_that_cannot_work_is_refused(reward: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        BestOfN(Predict(ASK), reward=reward)


def test_an_attempt_that_fails_counts_as_none() -> None:
    failure = ModelError("the server is down", status=400)
    for threshold in (None, 3.0):
        model = ScriptedModel(failure, chat(answer="abc"), failure)
        best = BestOfN(Predict(ASK), reward=length, n=3, threshold=threshold)
        assert best(RunContext(model=model), question="?").answer == "abc"
        with pytest.raises(ModelError, match="the server is down"):
            best(RunContext(model=ScriptedModel(failure)), question="?")
        with pytest.raises(InputError, match="question"):
            best(RunContext(model=model))


def test_a_reward_must_be_a_number() -> None:
    best = BestOfN(Predict(ASK), reward=lambda _inputs, _prediction: "good", n=1)  # type: ignore[return-value]
    with pytest.raises(ExecutionError, match="the reward must be a number, not 'good'"):
        best(RunContext(model=answers("a")), question="?")


def test_majority_returns_the_most_frequent_answer() -> None:
    model = answers("Paris", "Rome", "paris.", "Rome!", " PARIS ")
    prediction = Majority(Predict(ASK))(RunContext(model=model), question="?")
    assert prediction.answer == "Paris"
    assert prediction.usage.calls == 5
    tie = Majority(Predict(ASK), n=2)(RunContext(model=answers("b", "a")), question="?")
    assert tie.answer == "b"


def test_a_vote_ignores_empty_texts_and_compares_values_by_json() -> None:
    empty = [dspex.Prediction(answer=text) for text in ("", "", "x")]
    assert most_frequent(empty).answer == "x"
    lists = [dspex.Prediction(items=items) for items in ([1], [1, 2], [1, 2])]
    assert most_frequent(lists, field="items")["items"] == [1, 2]
    with pytest.raises(DefinitionError, match="no output 'other'"):
        most_frequent(empty, field="other")
    with pytest.raises(DefinitionError, match="at least one"):
        most_frequent([])


def test_an_ensemble_reduces_the_predictions_of_its_modules() -> None:
    modules = [Predict(ASK, model=answers(text)) for text in ("a", "b", "b")]
    assert Ensemble(modules)(RunContext(), question="?").answer == "b"
    joined = Ensemble(modules, reduce=join)(RunContext(), question="?")
    assert joined.answer == "a b b"
    with pytest.raises(DefinitionError, match="module 1 of the ensemble has no output 'answer'"):
        Ensemble([Predict(ASK), Predict("question -> text")])
    with pytest.raises(DefinitionError, match="at least one module"):
        Ensemble([])


def join(predictions: Any) -> dict[str, Any]:
    return {"answer": " ".join(prediction.answer for prediction in predictions)}


def test_the_comparison_shows_the_attempts_and_answers_anew() -> None:
    drafts = [chat(reasoning=f"because {text}", answer=text) for text in ("a", "b", "b")]
    model = ScriptedModel(*drafts, chat(rationale="two say b", answer="b"))
    prediction = MultiChainComparison(ASK)(RunContext(model=model), question="?")
    assert (prediction.rationale, prediction.answer) == ("two say b", "b")
    assert "because a\nAnswer: a" in prompt_of(model.requests[-1])

    model = ScriptedModel(chat(rationale="one", answer="z"))
    compare = MultiChainComparison(ASK, n=1)
    completions = [{"reasoning": "given", "answer": "z"}]
    compare(RunContext(model=model), question="?", completions=completions)
    assert len(model.requests) == 1
    with pytest.raises(InputError, match="1 completions, not 2"):
        compare(RunContext(model=model), question="?", completions=completions * 2)
    with pytest.raises(InputError, match="`reasoning` and 'answer' in completion 1"):
        compare(RunContext(model=model), question="?", completions=[{"answer": "z"}])


def test_refine_gives_the_advice_to_the_predictors() -> None:
    class TwoSteps(Module):
        signature = "question -> answer"

        def __init__(self) -> None:
            self.draft = Predict("question -> draft")
            self.polish = Predict("draft -> answer")

        async def forward(self, question: str) -> Any:
            draft = await self.draft.acall(question=question)
            return await self.polish.acall(draft=draft.draft)

    advice = '{"module.polish": "Write more.", "unknown": "x"}'
    model = ScriptedModel(
        chat(draft="d"),
        chat(answer="a"),
        chat(discussion="too short", advice=advice),
        chat(draft="d"),
        chat(answer="abc"),
    )
    refine = Refine(TwoSteps(), reward=length, threshold=3, n=3, goal="a long answer")
    prediction = refine(RunContext(model=model), question="?")
    assert prediction.answer == "abc"
    advising, draft, polish = model.requests[2:]
    assert '"predictor":"module.polish"' in prompt_of(advising).replace(": ", ":")
    assert "a long answer" in prompt_of(advising)
    assert prompt_of(polish).endswith("Advice after an earlier attempt at this: Write more.")
    assert "Advice" not in prompt_of(draft)


def test_refine_goes_on_without_advice_if_there_is_none() -> None:
    model = ScriptedModel(chat(answer="a"), ModelError("no advice", status=400), chat(answer="ab"))
    refine = Refine(Predict(ASK), reward=length, threshold=9, n=2)
    assert refine(RunContext(model=model), question="?").answer == "ab"


def test_a_retry_says_why_the_last_answer_was_refused() -> None:
    def accept(prediction: dspex.Prediction) -> bool:
        assert prediction.answer != "no", "it must be positive"
        return bool(prediction.answer == "yes")

    model = answers("no", "maybe", "yes")
    assert Retry(Predict(ASK), accept=accept)(RunContext(model=model), question="?").answer == "yes"
    first, second, third = map(prompt_of, model.requests)
    assert "earlier attempt" not in first
    assert "was not accepted: it must be positive" in second
    assert "maybe" in third
    assert "positive" not in third

    model = ScriptedModel("nonsense", "nonsense", chat(answer="yes"))
    assert Retry(Predict(ASK))(RunContext(model=model), question="?").answer == "yes"
    assert "An earlier attempt at this failed" in prompt_of(model.requests[-1])
    with pytest.raises(ExecutionError, match="it must be positive"):
        Retry(Predict(ASK), accept=accept)(RunContext(model=answers("no")), question="?")


def test_an_agent_reads_the_advice_too() -> None:
    calls = [ToolCall(str(n), "finish", {"answer": text}) for n, text in enumerate(("no", "yes"))]
    model = ScriptedModel(*calls, capabilities=["tools"])
    agent = Retry(ReAct(ASK, []), accept=lambda prediction: prediction.answer == "yes")
    assert agent(RunContext(model=model), question="?").answer == "yes"
    assert "was not accepted" in prompt_of(model.requests[1])


def test_predict_gives_several_completions() -> None:
    model = answers("a", "b", "c")
    prediction = Predict(ASK, n=3)(RunContext(model=Caching(model)), question="?")
    assert [completion.answer for completion in prediction.completions] == ["a", "b", "c"]
    assert prediction.answer == "a"
    assert prediction.usage.calls == 3
    [alone] = Predict(ASK)(RunContext(model=model), question="?").completions
    assert alone.answer == "c"


def test_completions_that_fail_are_left_out() -> None:
    model = ScriptedModel(ModelError("down", status=400), chat(answer="b"), chat(answer="c"))
    prediction = Predict(ASK, n=3)(RunContext(model=model), question="?")
    assert [completion.answer for completion in prediction.completions] == ["b", "c"]


def test_parallel_runs_pairs_of_modules_and_inputs() -> None:
    first, second = (Predict(ASK, model=answers(text)) for text in ("a", "b"))
    rows = [(first, {"question": "?"}), (second, {"question": "?"}), (second, {})]
    result = Parallel()(RunContext(), rows=rows)
    assert [row and row.answer for row in result.results] == ["a", "b", None]
    assert isinstance(result.errors[2], InputError)
    with pytest.raises(InputError, match=r"rows\[0\]: expected a pair"):
        Parallel()(RunContext(), rows=[{"question": "?"}])
    with pytest.raises(DefinitionError, match="has no module"):
        Parallel().to_program()


@pytest.mark.bridge
async def test_parallel_in_a_worker_returns_results_and_errors_as_data() -> None:
    async with IsolatedBackend() as backend:
        handle = await backend.create_program(Parallel(Predict(ASK)).to_program())
        context = RunContext(model=ScriptedModel(chat(answer="yes")))
        rows = [{"question": "?"}, {"text": "?"}]
        prediction = await backend.execute_program(handle, {"rows": rows}, context)
        assert prediction["results"] == [{"answer": "yes"}, None]
        assert "question: required" in prediction.to_dict()["errors"][1]  # type: ignore[index]


STORED = [
    BestOfN(Predict("question -> answer, score: float"), reward="score", n=2, threshold=0.5),
    BestOfN(Predict(ASK), reward=length),
    BestOfN(Predict(ASK), reward=Predict("answer -> quality: float")),
    Refine(Predict(ASK), reward=length, threshold=2, n=2, goal="long"),
    Majority(dspex.ChainOfThought(ASK), n=3),
    Ensemble([Predict(ASK), dspex.ChainOfThought(ASK)], reduce=join),
    MultiChainComparison(ASK, n=2),
    Predict(ASK, n=4),
    Retry(Predict(ASK), attempts=2, accept=bool),
]


@pytest.mark.parametrize("module", STORED[:-1], ids=lambda module: type(module).__name__)
def test_a_stored_module_is_built_as_it_was(module: Module) -> None:
    program = module.to_program("p")
    loaded = build(Program.from_dict(program.to_dict()), code=CodeRoot(_root()))
    assert loaded.to_program("p").content_hash == program.content_hash
    assert list(loaded.variables()) == list(module.variables())


def _root() -> Any:
    from pathlib import Path

    return Path(__file__).parents[3]


def test_a_function_that_cannot_be_found_is_not_stored() -> None:
    with pytest.raises(DefinitionError, match="`accept` of Retry at 'self' cannot be stored"):
        STORED[-1].to_program()
    with pytest.raises(DefinitionError, match="the reward function cannot be stored"):
        BestOfN(Predict(ASK), reward=lambda _inputs, _prediction: 1.0).to_program()


def test_with_six_of_ten_right_the_closed_forms_hold() -> None:
    """Attempts are independent: each wrapper reaches the probability of its closed form."""
    rng = random.Random(7)
    model = Caching(
        ScriptedModel(lambda _: chat(answer="yes" if rng.random() < 0.6 else f"no {rng.random()}"))
    )

    def is_right(_inputs: Any, prediction: dspex.Prediction) -> float:
        return float(prediction.answer == "yes")

    best = BestOfN(Predict(ASK), reward=is_right, n=5)
    rows = 400
    right = sum(
        best(RunContext(model=model), question=str(number)).answer == "yes"
        for number in range(rows)
    )
    assert abs(right / rows - (1 - 0.4**5)) < 0.03


def test_the_check_of_an_output_still_ends_an_attempt() -> None:
    def never(_text: str) -> bool:
        return False

    class Strict(dspex.Signature):
        """Answer."""

        question: str
        answer: str = dspex.Output(check=(never, "never good"))

    with pytest.raises(CheckError):
        Majority(Predict(Strict), n=2)(RunContext(model=answers("a")), question="?")


@pytest.mark.parametrize("kind", [Retry, BestOfN, Majority, Refine, Parallel])
def test_what_is_no_module_is_refused_where_it_is_wrapped(kind: Any) -> None:
    settings: dict[Any, dict[str, Any]] = {
        BestOfN: {"reward": length},
        Refine: {"reward": length, "threshold": 1.0},
    }
    with pytest.raises(DefinitionError, match=f"{kind.__name__} takes a module"):
        kind(1, **settings.get(kind, {}))
