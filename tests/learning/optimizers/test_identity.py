"""A journal is of one search.

Whatever its results depend on is distinguished, and a mismatch is named.
"""

import importlib.util
import json
from functools import partial

import pytest

import dspex
from dspex.errors import ConflictError
from dspex.language.records.canonical import content_hash
from dspex.learning.evaluation.metrics import METRICS
from dspex.learning.optimizers import Joint, Search
from dspex.learning.optimizers.identity import source_of
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.sync import run

TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for c in "ab" for n in range(4)])
FEW = dspex.LabeledFewShot(per_class=1, candidates=2)


def _metric(folder, body):
    """A metric in a separate file, whose text counts and not its name."""
    file = folder / f"measure_{abs(hash(body))}.py"
    file.write_text(f"def right(example, prediction):\n    return {body}\n")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.right


@pytest.fixture
def start(rulebook, tmp_path):
    """A search that is done, and a function that starts it again with something changed."""
    journal = MemoryJournal()

    def start(
        *, name="rulebook", metric="example['label'] == prediction.label", program=None, **change
    ):
        model = rulebook(lambda _: json.dumps({"label": "a"}))
        model.name = name
        arguments = {"train": TRAIN, "optimizer": FEW, "adapter": None, **change}
        options = {
            key: arguments.pop(key) for key in list(arguments) if key in Search.__dataclass_fields__
        }
        search = Search(journal=journal, **options)
        optimizer, adapter = arguments.pop("optimizer"), arguments.pop("adapter")
        with dspex.context(model=model, adapter=adapter):
            predict = program or dspex.Predict("text -> label")
            run(
                dspex.aoptimize(
                    predict, optimizer, metric=_metric(tmp_path, metric), search=search, **arguments
                )
            )
        return model

    start()
    assert not start().requests  # the same search again: nothing is asked
    return start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "another"}, r"the model was 'rulebook' and is 'another'"),
        ({"metric": "example['label'] in prediction.label"}, r"the metric 'right' changed"),
        ({"seed": 3}, r"the seed was '0, None' and is '3, None'"),
        ({"train": TRAIN[:7]}, "the training rows changed"),
        (
            {"optimizer": dspex.LabeledFewShot(per_class=1, candidates=3)},
            "the options of the optimizer",
        ),
        (
            {"optimizer": Joint(trials=2)},
            r"the optimizer was 'LabeledFewShot' and is 'Joint'; the options",
        ),
        ({"program": dspex.Predict("text -> label: bool")}, "the program changed"),
        ({"adapter": "json"}, "the adapter was 'none' and is 'JSONAdapter'"),
        ({"on_error": -1.0, "rows": 3}, "rows was 'None' and is '3'; .*on_error was 'None' and is"),
    ],
)
def test_what_differs_is_named_with_the_mend(start, change, message):
    if "Joint" in message:
        pytest.importorskip("optuna")
    with pytest.raises(ConflictError, match=message) as caught:
        start(**change)
    assert "take another journal" in caught.value.message.lower()
    assert "--fresh" in caught.value.message


def test_what_a_metric_closes_over_counts_and_a_journal_of_old_is_refused(rulebook):
    def at_least(size):
        return lambda example, prediction: len(prediction.label) >= size

    journal = MemoryJournal()

    def start(size):
        with dspex.context(model=rulebook(lambda _: json.dumps({"label": "a"}))):
            work = dspex.aoptimize(
                dspex.Predict("text -> label"),
                FEW,
                train=TRAIN,
                metric=at_least(size),
                search=Search(journal=journal),
            )
            run(work)

    start(1)
    start(1)
    with pytest.raises(ConflictError, match=r"the metric .* changed"):
        start(2)
    journal = MemoryJournal()
    run(journal.append({"kind": "begin", "identity": "0" * 64}))
    with pytest.raises(ConflictError, match="another version of dspex"):
        start(1)


def _scored(example, prediction, *, least):
    return len(prediction.label) >= least


def _as_long(example, prediction, *, least):
    return len(prediction.label) == least


def _both(first, second):
    return lambda example, prediction: first(example, prediction) and second(example, prediction)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (partial(_scored, least=1), partial(_scored, least=2)),
        (partial(_scored, least=1), partial(_as_long, least=1)),
        (_both(dspex.exact_match, dspex.exact_match), _both(dspex.exact_match, _scored)),
    ],
)
def test_metrics_that_differ_in_what_was_bound_to_them_are_told_apart(first, second):
    assert source_of(first) == source_of(first)
    assert content_hash(source_of(first)) != content_hash(source_of(second))


def test_a_journal_with_the_source_of_a_built_in_metric_goes_on_and_a_custom_one_does_not(rulebook):
    model, journal = rulebook(lambda _: json.dumps({"label": "a"})), MemoryJournal()

    def start(metric):
        with dspex.context(model=model):
            return run(
                dspex.aoptimize(
                    dspex.Predict("text -> label"),
                    FEW,
                    train=TRAIN,
                    metric={"exact_match": metric},
                    search=Search(journal=journal),
                )
            )

    start(dspex.exact_match)
    calls = len(model.requests)
    journal._entries[0]["identity"]["the metric 'exact_match'"] = "5f" * 32  # of another version
    start(dspex.exact_match)
    assert len(model.requests) == calls
    with pytest.raises(ConflictError, match="the metric 'exact_match' changed"):
        start(lambda example, prediction: 1.0)
    journal._entries[0]["identity"]["the metric 'exact_match'"] = "built in"
    with pytest.raises(ConflictError, match="the metric 'exact_match' was 'built in' and is"):
        start(lambda example, prediction: 1.0)
    journal._entries[0]["identity"]["the metric 'exact_match'"] = "built in: exact_match"
    with pytest.raises(ConflictError, match="'built in: exact_match' and is 'built in: f1'"):
        start(METRICS["f1"])
