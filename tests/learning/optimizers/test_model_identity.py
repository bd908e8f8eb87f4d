"""A search knows its models by their identities: each is asked, and answers for itself."""

import json

import msgspec
import pytest

import dspex
from dspex.errors import ConflictError
from dspex.execution.clients import Budget, Request
from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.context import current
from dspex.language.records import Message, Usage
from dspex.language.records.canonical import content_hash
from dspex.learning.optimizers import Search
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.proposer import Candidate
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.sync import run

TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for c in "ab" for n in range(4)])
URLS = ("http://a/v1", "http://b/v1")


class EachServer:
    """An optimizer that tries every server once."""

    def start(self, task):
        return _EachServer()

    def runs(self, task, rows):
        return len(URLS) * rows


class _EachServer:
    def __init__(self):
        self._left = [Candidate(label=url, assignment={"server": f"{url}#m"}) for url in URLS]

    def ask(self, count):
        candidates, self._left = self._left, []
        return candidates

    def tell(self, results):
        pass


def servers(rulebook):
    """Two servers that call their model `m`; the second one is always right."""
    models = {}
    for url, answer in zip(
        URLS, (lambda _: "z", lambda request: request.messages[-1].content), strict=True
    ):
        model = rulebook(
            lambda request, answer=answer: json.dumps({"label": _letter(answer(request))})
        )
        model.name = "m"
        model.identity = ModelIdentity(provider="openai-compatible", base_url=url, name="m")
        models[f"{url}#m"] = model
    return models


def _letter(text):
    return next((letter for letter in "ab" if any(f"{letter}{n}" in text for n in range(4))), "z")


def searched(models, journal):
    program = dspex.Predict("text -> label", model=dspex.OneOf(*models, name="server"))
    search = Search(journal=journal)
    context = msgspec.structs.replace(current(), models=models.__getitem__)
    work = dspex.aoptimize(
        program, EachServer(), train=TRAIN, metric=dspex.exact_match, context=context, search=search
    )
    return run(work)


def test_a_choice_of_two_servers_with_one_name_asks_both_and_reports_their_own_answers(rulebook):
    models, journal = servers(rulebook), MemoryJournal()
    outcome = searched(models, journal)
    assert [len(model.requests) for model in models.values()] == [8, 8]
    scores = {trial.candidate.assignment.get("server"): trial.score for trial in outcome.trials}
    assert (scores["http://a/v1#m"], scores["http://b/v1#m"]) == (0.0, 1.0)
    again = servers(rulebook)
    assert [trial.score for trial in searched(again, journal).trials] == [
        trial.score for trial in outcome.trials
    ]
    assert not any(model.requests for model in again.values())


def test_a_journal_of_names_goes_on_unless_models_share_a_name(rulebook):
    journal, models = MemoryJournal(), servers(rulebook)
    searched(models, journal)
    (start, *_) = run(journal.entries())
    identity = {**start["identity"], "the scheme of journals": "2", "the model": "http://a/v1#m"}

    old = MemoryJournal()
    run(old.append({"kind": "begin", "identity": identity}))
    with pytest.raises(ConflictError, match="'http://a/v1#m' and 'http://b/v1#m' have the same"):
        searched(servers(rulebook), old)

    alone = servers(rulebook)
    alone["http://b/v1#m"].name = "other"
    assert len(searched(alone, old).trials) == 3


async def test_answers_of_old_go_to_the_first_model_of_the_name(rulebook):
    first, second = servers(rulebook).values()
    request = Request(messages=(Message("user", "a1"),))
    key = content_hash(["m", "", msgspec.to_builtins(request)])
    usage = msgspec.to_builtins(Usage(calls=1))
    async with ReplyStore(
        MemoryJournal(), budget=Budget(), control=Control(), concurrency=1
    ) as answers:
        answers.restore({"kind": "answer", "key": key, "model": "m", "text": "old", "usage": usage})
        assert [
            (await answers.reply(model, request, "")).text for model in (first, second, first)
        ] == ["old", '{"label": "a"}', "old"]
    assert (len(first.requests), len(second.requests)) == (0, 1)
