"""Misspelled arguments of the public classes and functions."""

import inspect
from typing import Any

import pytest

import dspex
from dspex import agents, evaluation, models, modules, optimizers, retrieval, tools, variables
from dspex.arguments import checks_names
from dspex.errors import DefinitionError


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        (lambda **arguments: dspex.Predict("q -> a", **arguments), "temprature", "temperature"),
        (
            lambda **arguments: dspex.Retry(dspex.Predict("q -> a"), **arguments),
            "atempts",
            "attempts",
        ),
        (dspex.Joint, "trails", "trials"),
        (dspex.LabeledFewShot, "per_clas", "per_class"),
        (dspex.Search, "validaton", "validation"),
        (lambda **arguments: dspex.Float(0, 1, **arguments), "precison", "precision"),
        (dspex.Budget, "token", "tokens"),
        (dspex.Collection, "embeder", "embedder"),
        (dspex.Dataset, "exampels", "examples"),
        (dspex.Tool, "nam", "name"),
        (dspex.configure, "modle", "model"),
        (dspex.evaluate, "metrik", "metric"),
        (dspex.optimize, "trian", "train"),
        (models.OpenAIModel, "modle", "model"),
        (agents.TeamLimits, "turn", "turns"),
        (modules.SandboxLimits, "secnds", "seconds"),
        (retrieval.SentenceChunker, "tokns", "tokens"),
    ],
)
def test_misspelled_argument_is_refused_with_the_right_one(call, wrong, right):
    with pytest.raises(DefinitionError, match=rf"takes no '{wrong}'\. Did you mean '{right}'"):
        call(**{wrong: 1})


def test_misspelled_argument_of_a_context_is_refused():
    with (
        pytest.raises(DefinitionError, match=r"context takes no 'modle'\. Did you mean 'model'"),
        dspex.context(modle="x"),  # type: ignore[call-arg]
    ):
        pass


async def test_misspelled_argument_of_a_coroutine_is_refused():
    assert inspect.iscoroutinefunction(dspex.aevaluate)
    with pytest.raises(DefinitionError, match="Did you mean 'metric'"):
        await dspex.aevaluate(metrik=1)  # type: ignore[call-arg]


PREDICT: Any = dspex.Predict
REACT: Any = dspex.ReAct
RETRY: Any = dspex.Retry
LIMITS: Any = agents.TeamLimits


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PREDICT(), r"Predict needs signature\. It takes: signature, "),
        (lambda: REACT(), r"ReAct needs signature and tools\. "),
        (lambda: REACT("q -> a"), r"ReAct needs tools\. "),
        (
            lambda: RETRY(PREDICT("q -> a"), 3),
            "Retry takes only module by position, not 3 too; write it by name",
        ),
        (lambda: LIMITS(3), "TeamLimits takes nothing by position, not 3 too"),
    ],
)
def test_missing_and_superfluous_arguments_are_named(call, message):
    with pytest.raises(DefinitionError, match=message):
        call()


ROWS = dspex.Dataset.from_rows([{"q": str(number), "a": "1"} for number in range(10)])
P = PREDICT("q -> a")
FROM_ROWS: Any = dspex.Dataset.from_rows
SPLIT: Any = ROWS.split
BEST_OF_N: Any = modules.BestOfN
RLM: Any = modules.RLM
ROUTER: Any = agents.Router


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dspex.Joint(trials=0), "`trials` of Joint takes a whole number from 1, not 0"),
        (
            lambda: dspex.Search(test=5),
            "`test` of Search takes a Dataset or None, not 5",
        ),
        (
            lambda: dspex.Search(alpha=1),
            "`alpha` of Search takes a number above 0 and below 1, not 1",
        ),
        (
            lambda: dspex.Search(concurrency=True),
            "`concurrency` of Search takes a whole number from 1, not True",
        ),
        (
            lambda: dspex.Search(seed="1"),
            "`seed` of Search takes a whole number, not '1'",
        ),
        (
            lambda: dspex.LabeledFewShot(k=2.5),
            "`k` of LabeledFewShot takes a whole number from 1 or None, not 2.5",
        ),
        (lambda: dspex.Joint(only="self.demos"), "`only` of Joint takes a list, not 'self.demos'"),
        (lambda: dspex.Joint(only=(1,)), "`only` of Joint takes a list, not (1,)"),
        (lambda: dspex.Retrieve("handbook", query=5), "`query` of Retrieve takes text, not 5"),
        (
            lambda: dspex.Dataset.from_rows(5),
            "`rows` of Dataset.from_rows takes a list, not 5",
        ),
        (lambda: FROM_ROWS([5]), "`rows` of Dataset.from_rows takes a list, not [5]"),
        (
            lambda: ROWS.split(0.5, 0.5, seed="x"),
            "`seed` of Dataset.split takes a whole number, not 'x'",
        ),
        (lambda: SPLIT(0.5, 0.5), "Dataset.split needs seed. It takes: sizes, seed, stratify"),
        (lambda: BEST_OF_N(), "BestOfN needs module and reward. It takes: module, "),
        (lambda: RLM(), "RLM needs signature. It takes: "),
        (lambda: ROUTER(), "Router needs "),
        (
            lambda: PREDICT("q -> a", model=5),
            "`model` of Predict takes a LanguageModel, text, a Variable or None, not 5",
        ),
        (
            lambda: dspex.evaluate(P, [{"q": "x"}], dspex.exact_match),
            "`dataset` of evaluate takes a Dataset, not [{'q': 'x'}]",
        ),
        (
            lambda: dspex.evaluate(P, ROWS, dspex.exact_match, concurrency=0),
            "`concurrency` of evaluate takes a whole number from 1, not 0",
        ),
        (
            lambda: dspex.optimize(P, "Joint", train=ROWS, metric=dspex.exact_match),
            "'Joint' is not an optimizer; create one, such as dspex.RandomSearch(candidates=8)",
        ),
        (lambda: dspex.configure(store=3), "`store` of configure takes text, a path, one of False"),
        (lambda: dspex.load(5), "`path` of load takes text or a path, not 5"),
        (lambda: dspex.open(5), "`folder` of open takes text or a path, not 5"),
        (lambda: models.Caching("openai/x"), "`model` of Caching takes a LanguageModel, not 'op"),
    ],
)
def test_values_of_another_type_or_size_are_refused_with_what_fits(call, message):
    with pytest.raises(DefinitionError) as caught:
        call()
    assert message in caught.value.message


def test_a_context_takes_seconds_above_zero():
    with (
        pytest.raises(DefinitionError, match="`timeout` of context takes a number above 0 or None"),
        dspex.context(timeout=-1),
    ):
        pass


def test_numbers_of_numpy_paths_and_any_collection_are_taken(tmp_path):
    numpy = pytest.importorskip("numpy")
    assert dspex.Joint(trials=numpy.int64(3), only=["a"]).trials == 3
    assert dspex.Search(alpha=numpy.float32(0.5)).alpha == 0.5
    assert len(dspex.Dataset.from_rows(iter([{"q": 1}]))) == 1
    with pytest.raises(DefinitionError, match="takes a whole number from 1, not nan"):
        dspex.Joint(trials=float("nan"))


def _public() -> dict[str, Any]:
    rooms = (dspex, agents, evaluation, modules, models, optimizers, retrieval, tools, variables)
    return {
        f"{room.__name__}.{name}": getattr(room, name) for room in rooms for name in room.__all__
    }


UNCHECKED = {
    # values and results that programs create in masses, and classes that users extend
    *("Candidate", "Chunk", "Cited", "Comparison", "Condition", "DspexError", "Embeddings"),
    *("Example", "Expression", "FieldDelta", "Finished", "Interval", "Message", "Module"),
    *(
        "Outcome",
        "Passage",
        "Prediction",
        "Program",
        "MajorityClass",
        "RagReport",
        "Report",
        "Request",
    ),
    *("Response", "Row", "RunContext", "SandboxResult", "SearchResult", "Signature"),
    *("SourceDocument", "Task", "TeamWorth", "ToolCall", "ToolSpec", "Trial", "Usage", "Where"),
    *("Additions", "CircuitLimits", "SearchQuestion", "SearchReply"),
    *("Board", "Coordination", "BackendModule", "WrappedEmbedder", "Worth", "Cancellation"),
    # called in every run
    *("Assert", "Suggest", "ask", "answer_match", "average_precision", "contains"),
    *("exact_match", "f1", "most_frequent", "passage_match", "reciprocal_rank", "supported"),
    # they take any value, or say themselves what they take
    *("program", "find_sandbox", "hit_at", "ndcg_at", "recall_at"),
    *("parse_chunker", "parse_file", "with_handoff", "demonstration_count"),
    *("model_settings", "reply_room", "retriever_k", "samples", "strategies", "strategy"),
}


def test_all_that_users_call_by_name_checks_its_arguments():
    unchecked = set()
    for name, target in _public().items():
        is_protocol = getattr(target, "_is_protocol", False)
        if inspect.isfunction(target) or (inspect.isclass(target) and not is_protocol):
            call = target.__init__ if inspect.isclass(target) else target
            if not hasattr(call, "__wrapped__"):
                unchecked.add(name.rpartition(".")[2])
    assert unchecked == UNCHECKED


def test_type_errors_inside_the_call_stay():
    @checks_names
    def length(text, *, unit=""):
        return len(text), unit

    with pytest.raises(TypeError, match="has no len"):
        length(5)
    assert length("abc", unit="m") == (3, "m")
