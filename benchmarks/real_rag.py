"""Retrieval and RAG on xquad: 240 paragraphs and 1,190 questions, in English and German.

1. Recall@1, recall@5 and the reciprocal rank of lexical, dense and hybrid search, with 95%
   intervals, beside bm25s and dspy's Embeddings on the same chunks and vectors. The weight of
   hybrid search is tuned by the rule in `hybrid_weight.py`, which also tells what the rules before
   have seen. Goal: on held-out questions it is not worse than the better of both (lower bound of
   the paired difference above -0.01). The same on 1,500 questions of banking77, which no rule has
   seen before: among 2,000 others, those of the same intent matter.
2. With a scripted reader that answers right exactly when the passage is in its prompt, the accuracy
   of the program equals recall@k.
3. A joint search over k, mode, weight and chunking. Goal: the front of recall against tokens that
   it finds has a larger hypervolume than the defaults on held-out questions (lower bound of the
   paired difference over 10 seeds above 0).
4. Exact match and F1 of the local model, as they are.

The vectors are those of the offline embedder, made once. The data is in `../shared`, or where
DSPEX_SHARED points.

    python benchmarks/real_rag.py [--quick] [--check] [--only en|de|banking77|reader|joint|local]
"""

import argparse
import asyncio
import csv
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy
from banking77 import SHARED
from hybrid_weight import SEED, WEIGHTS, judge

import dspex
from dspex.evaluation import (
    Interval,
    bootstrap,
    evaluate_rag,
    exact_match,
    f1,
    hit_at,
    recall_at,
    reciprocal_rank,
)
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings
from dspex.execution.clients.offline_embedder import OfflineEmbedder
from dspex.execution.retrieval.window import estimate_tokens
from dspex.learning.optimizers.limits import hypervolume
from dspex.learning.statistics import mean_interval
from dspex.retrieval import Passage, parse_chunker
from dspex.testing import ScriptedModel
from dspex.variables import Choice, Float, Integer

Outcome = tuple[dict[str, Any], list[tuple[str, bool]]]
Part = Callable[..., Outcome]
Data = tuple[dict[str, str], list[dict[str, Any]]]  # texts by key, and questions
RESULTS = Path(__file__).parent / "results" / "real_rag.json"
DATA = SHARED / "data" / "xquad"
LANGUAGES = ("en", "de")
DEPTH = 20  # passages of a ranking: at least 5 paragraphs
SEEDS = range(10)
CHUNKING = {"tokens": 150}
SIZES = (75, 150)  # tokens of a chunk in the joint search
ARTICLES = 48
REFERENCE = (0.0, -2000.0)  # recall and tokens
FIGURES: dict[str, Any] = {
    "recall@1": recall_at(1),
    "recall@5": recall_at(5),
    "mrr": reciprocal_rank,
}
HITS: dict[str, Any] = {"hit@1": hit_at(1), "hit@5": hit_at(5), "mrr": reciprocal_rank}


class StoredVectors:
    """Embeds each text once."""

    name = "stored"

    def __init__(self) -> None:
        self._embedder = OfflineEmbedder()
        self.rows: dict[str, Any] = {}
        self.dimensions, self.fingerprint = self._embedder.dimensions, self._embedder.fingerprint

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        missing = [text for text in dict.fromkeys(texts) if text not in self.rows]
        if missing:
            vectors = (await self._embedder.embed(missing, kind)).vectors
            self.rows.update(zip(missing, vectors, strict=True))
        rows = numpy.stack([self.rows[text] for text in texts])
        return Embeddings(vectors=rows, usage=dspex.Usage(), model=self.name)

    async def aclose(self) -> None:
        """There is nothing to free."""


def xquad(language: str, articles: int) -> Data:
    """Return the paragraphs of articles by key, and the questions with answer and paragraph."""
    data = json.loads((DATA / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
    texts, questions = {}, []
    for article, entry in enumerate(data[:articles]):
        for number, paragraph in enumerate(entry["paragraphs"]):
            key = f"{article}/{number}"
            texts[key] = paragraph["context"]
            questions += [
                {"query": qa["question"], "answer": qa["answers"][0]["text"], "relevant": key}
                for qa in paragraph["qas"]
            ]
    return texts, questions


def banking77(documents: int, count: int) -> Data:
    """Return texts by key, and other texts as questions, for which those of their intent matter."""
    rows = {split: intents(split, size) for split, size in (("train", documents), ("test", count))}
    texts = {str(number): text for number, (text, _) in enumerate(rows["train"])}
    relevant: dict[str, list[str]] = {}
    for number, (_, intent) in enumerate(rows["train"]):
        relevant.setdefault(intent, []).append(str(number))
    questions = [
        {"query": text, "relevant": relevant[intent], "group": intent}
        for text, intent in rows["test"]
        if intent in relevant
    ]
    return texts, questions


def intents(split: str, count: int) -> list[tuple[str, str]]:
    """Return different texts with their intents."""
    with (SHARED / "data" / "banking77" / f"{split}.csv").open(encoding="utf-8") as file:
        rows = list(
            {row["text"]: (row["text"], row["category"]) for row in csv.DictReader(file)}.values()
        )
    return random.Random(SEED).sample(rows, count)


def scores(
    rankings: list[list[str]], questions: list[dict[str, Any]], figures: dict[str, Any]
) -> dict[str, list[float]]:
    """Return the figures of each question by name."""
    result: dict[str, list[float]] = {name: [] for name in figures}
    for ranking, question in zip(rankings, questions, strict=True):
        passages = [Passage(text="", document=key) for key in ranking]
        prediction = dspex.Prediction(passages=passages)
        for name, metric in figures.items():
            result[name].append(metric(dspex.Example(question), prediction))
    return result


async def our_rankings(
    collection: dspex.Collection, questions: list[dict[str, Any]], mode: Any, weight: float
) -> list[list[str]]:
    retriever = collection.retriever(mode=mode, weight=weight)
    results = [await retriever.search(question["query"], DEPTH) for question in questions]
    return [[passage.document or "" for passage in result] for result in results]


def bm25s_rankings(texts: list[str], keys: list[str], queries: list[str]) -> list[list[str]]:
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(queries, show_progress=False)
    rows, _ = index.retrieve(tokens, k=DEPTH, show_progress=False)
    return [[keys[n] for n in row] for row in rows.tolist()]


def dspy_rankings(
    texts: list[str], keys: list[str], queries: list[str], embed: Callable[[list[str]], Any]
) -> list[list[str]]:
    from dspy.retrievers import Embeddings as DspyEmbeddings

    index = DspyEmbeddings(corpus=texts, embedder=embed, k=DEPTH)
    with ThreadPoolExecutor(32) as pool:  # it waits 0.1 s for more queries
        return [[keys[n] for n in result.indices] for result in pool.map(index, queries)]


async def search_figures(name: str, data: Data, vectors: StoredVectors) -> Outcome:
    texts, questions = data
    figures = FIGURES if name in LANGUAGES else HITS
    collection = dspex.Collection.from_texts(texts, embedder=vectors, chunking=CHUNKING)
    queries = [question["query"] for question in questions]
    await vectors.embed(queries, "query")
    chunker = parse_chunker(CHUNKING)
    chunks = [(chunk.text, key) for key, text in texts.items() for chunk in chunker.divide(text)]
    chunk_texts, keys = [text for text, _ in chunks], [key for _, key in chunks]
    await vectors.embed(chunk_texts)

    def embed(batch: Any) -> Any:
        rows = [vectors.rows[text] for text in batch]
        return numpy.stack(rows)

    systems: dict[str, Callable[[], Any]] = {
        "lexical": lambda: our_rankings(collection, questions, "lexical", 0.5),
        "dense": lambda: our_rankings(collection, questions, "dense", 0.5),
        **{
            f"hybrid {weight}": lambda weight=weight: our_rankings(
                collection, questions, "hybrid", weight
            )
            for weight in WEIGHTS
        },
    }
    await collection.asearch("first", 1)
    await collection.asearch("first", 1, mode="lexical")
    results, milliseconds = {}, {}
    for system, run in systems.items():
        start = time.process_time()
        rankings = await run()
        milliseconds[system] = (time.process_time() - start) / len(questions) * 1e3
        results[system] = scores(rankings, questions, figures)
    peers = {"bm25s": lambda: bm25s_rankings(chunk_texts, keys, queries)}
    if importlib.util.find_spec("dspy"):
        peers["dspy Embeddings"] = lambda: dspy_rankings(chunk_texts, keys, queries, embed)
    for system, peer in peers.items():
        start = time.process_time()
        rankings = peer()
        milliseconds[system] = (time.process_time() - start) / len(questions) * 1e3
        results[system] = scores(rankings, questions, figures)
    groups = [question.get("group", question["relevant"]) for question in questions]
    return tuned(name, results, milliseconds=milliseconds, groups=groups)


def tuned(
    name: str, results: dict[str, Any], *, milliseconds: dict[str, float], groups: list[str]
) -> Outcome:
    choices, goals = judge(name, {w: results[f"hybrid {w}"] for w in WEIGHTS}, groups)
    results["hybrid, tuned"] = choices["one standard error"].scores
    milliseconds["hybrid, tuned"] = milliseconds["hybrid 0.5"]
    table = {}
    for system in ("lexical", "dense", "hybrid 0.5", "hybrid, tuned", "bm25s", "dspy Embeddings"):
        if system in results:
            rows = {f: (fmean(v), mean_interval(v)) for f, v in results[system].items()}
            figures: dict[str, Any] = {f: [m, i.low, i.high] for f, (m, i) in rows.items()}
            table[system] = {**figures, "ms": milliseconds[system]}
    rules: dict[str, Any] = {}
    for rule, choice in choices.items():
        rules[rule] = {"weights": choice.weights}
        for figure in choice.scores:
            single, interval = choice.difference(figure)
            rules[rule][figure] = [single, interval.low, interval.high]
    return {"rules": rules, "table": table}, goals


def reader(questions: dict[str, dict[str, Any]], texts: dict[str, str]) -> ScriptedModel:
    """Return a model that is right exactly when a passage of the paragraph is in its prompt."""
    chunks = {
        key: [chunk.text for chunk in parse_chunker(CHUNKING).divide(text)]
        for key, text in texts.items()
    }

    def reply(request: Any) -> str:
        prompt = request.messages[-1].content
        question = prompt.split("[[ ## question ## ]]\n")[1].split("\n\n")[0]
        row = questions[question]
        is_there = any(text in prompt for text in chunks[row["relevant"]])
        answer = row["answer"] if is_there else "unknown"
        return f"[[ ## reasoning ## ]]\nx\n\n[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"

    return ScriptedModel(reply)


def end_to_end(vectors: StoredVectors, articles: int, count: int) -> Outcome:
    texts, questions = xquad("en", articles)
    rows = list({row["query"]: row for row in random.Random(1).sample(questions, count)}.values())
    collection = dspex.Collection.from_texts(texts, embedder=vectors, chunking=CHUNKING)
    dataset = dspex.Dataset.from_rows(
        {"question": row["query"], "answer": row["answer"], "relevant": row["relevant"]}
        for row in rows
    )
    by_question = {row["query"]: row for row in rows}
    figures, goals = {}, []
    for k in (1, 3):
        ask = dspex.RAG("question -> answer", collection, k=k, mode="lexical")
        model = reader(by_question, texts)
        report = evaluate_rag(
            ask,
            dataset,
            answer=exact_match,
            threshold=1.0,
            more={"recall": recall_at(k)},
            context=dspex.RunContext(model=model),
        )
        accuracy, recall = report.report.mean, report.report.mean_of("recall")
        figures[k] = {"accuracy": accuracy, "recall": recall, "cases": report.counts}
        goals.append(
            (
                f"a scripted reader is right with recall@{k}: {accuracy:.4f}, {recall:.4f}",
                accuracy == recall and "ignored" not in report.counts,
            )
        )
    return figures, goals


def brevity(_example: Any, prediction: Any) -> float:
    return -float(sum(estimate_tokens(passage.text) for passage in prediction.passages))


def searched(collection: dspex.Collection) -> Any:
    return dspex.Retrieve(
        collection,
        k=Integer(1, 10, default=5),
        mode=Choice("hybrid", "lexical", "dense"),
        weight=Float(0, 1, default=0.5),
        chunking=Choice(*({"tokens": size} for size in SIZES), default=CHUNKING),
    )


async def volume(programs: list[Any], held_out: dspex.Dataset) -> float:
    points = []
    for program in programs:
        metrics = {"recall": recall_at(10), "brevity": brevity}
        report = await dspex.aevaluate(program, held_out, metrics)
        points.append((report.mean_of("recall"), report.mean_of("brevity")))
    return hypervolume(points, REFERENCE)


async def joint(
    vectors: StoredVectors, articles: int, *, trials: int, rows: int, held_out: int
) -> Outcome:
    texts, questions = xquad("en", articles)
    collection = dspex.Collection.from_texts(texts, embedder=vectors)
    differences, defaults = [], []
    for seed in SEEDS:
        sample = random.Random(seed).sample(questions, rows + held_out)
        train = dspex.Dataset.from_rows(sample[:rows])
        test = dspex.Dataset.from_rows(sample[rows:], name="held out")
        program = searched(collection)
        optimizer = dspex.Joint(
            trials=trials, objectives=("recall", "brevity"), instructions=1, sets=0
        )
        outcome = await dspex.aoptimize(
            program,
            optimizer,
            train=train,
            metric={"recall": recall_at(10), "brevity": brevity},
            search=dspex.Search(seed=seed, insists=True),
        )
        front = outcome.front("recall", "brevity")
        programs = [program.assign(trial.candidate.assignment) for trial in front]
        default = await volume([program], test)
        defaults.append(default)
        differences.append(await volume(programs, test) - default)
    interval: Interval = bootstrap(differences)
    gain = fmean(differences) / fmean(defaults)
    text = (
        f"joint search: hypervolume of recall and tokens {gain:+.0%} over the defaults "
        f"(difference from {interval.low:.0f} to {interval.high:.0f})"
    )
    figures = {"defaults": defaults, "differences": differences}
    return figures, [(text, interval.low > 0)]


def local_model(vectors: StoredVectors, articles: int, count: int) -> dict[str, Any]:
    if not importlib.util.find_spec("xllamacpp"):
        return {"not measured": "xllamacpp is not installed"}
    texts, questions = xquad("en", articles)
    collection = dspex.Collection.from_texts(texts, embedder=vectors, chunking=CHUNKING)
    rows = random.Random(2).sample(questions, count)
    dataset = dspex.Dataset.from_rows(
        {"question": row["query"], "answer": row["answer"], "relevant": row["relevant"]}
        for row in rows
    )
    ask = dspex.RAG("question -> answer", collection, k=2)
    with dspex.context(model="local/gemma3-270m"):
        report = evaluate_rag(ask, dataset, answer=f1, more={"exact": exact_match}, concurrency=1)
    names = ("answer", "exact", "retrieved")
    return {"rows": count, **{name: report.report.mean_of(name) for name in names}}


def figures_text(figures: dict[str, Any]) -> str:
    """Return figures as text; a table of searches is one."""
    if "table" not in figures:
        return ", ".join(f"{name} {value}" for name, value in figures.items())
    names = [name for name in figures["table"]["lexical"] if name != "ms"]
    lines = [f"{'':24}" + "".join(f"{name:>22}" for name in names) + f"{'CPU ms':>9}"]
    for system, row in figures["table"].items():
        cells = [f"{row[f][0]:.3f} [{row[f][1]:.3f}, {row[f][2]:.3f}]" for f in names]
        text = "".join(f"{cell:>22}" for cell in cells)
        lines.append(f"{system:24}{text}{row['ms']:9.2f}")
    for rule, values in figures["rules"].items():
        cells = [f"{f} {values[f][1]:+.3f} to {values[f][2]:+.3f}" for f in names]
        lines.append(f"{rule}: weights {values['weights']}, difference of " + ", ".join(cells))
    return "\n" + "\n".join(lines)


def search_part(language: str) -> Part:
    return lambda vectors, *, is_quick: asyncio.run(
        search_figures(language, xquad(language, ARTICLES // 2 if is_quick else ARTICLES), vectors)
    )


def banking77_part(vectors: StoredVectors, *, is_quick: bool) -> Outcome:
    data = banking77(*((500, 200) if is_quick else (2_000, 1_500)))
    return asyncio.run(search_figures("banking77", data, vectors))


def reader_part(vectors: StoredVectors, *, is_quick: bool) -> Outcome:
    return end_to_end(vectors, *((ARTICLES // 2, 60) if is_quick else (ARTICLES, 400)))


def joint_part(vectors: StoredVectors, *, is_quick: bool) -> Outcome:
    sizes = (
        {"trials": 12, "rows": 30, "held_out": 100}
        if is_quick
        else {"trials": 32, "rows": 60, "held_out": 300}
    )
    return asyncio.run(joint(vectors, ARTICLES // 2 if is_quick else ARTICLES, **sizes))


def local_part(vectors: StoredVectors, *, is_quick: bool) -> Outcome:
    return local_model(vectors, *((ARTICLES // 2, 4) if is_quick else (ARTICLES, 12))), []


PARTS: dict[str, Part] = {
    "en": search_part("en"),
    "de": search_part("de"),
    "banking77": banking77_part,
    "reader": reader_part,
    "joint": joint_part,
    "local": local_part,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="half of the articles, fewer trials")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--only", choices=PARTS, help="one part; results of the others are kept")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"no data: {DATA} is not a folder; set DSPEX_SHARED")
        return 1
    vectors = StoredVectors()
    results: dict[str, Any] = {}
    if options.only and RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    is_reached = True
    for name in [options.only] if options.only else PARTS:
        start = time.perf_counter()
        figures, goals = PARTS[name](vectors, is_quick=options.quick)
        results[name] = {
            "figures": figures,
            "goals": [{"goal": text, "reached": ok} for text, ok in goals],
            "seconds": time.perf_counter() - start,
        }
        print(f"\n{name} ({results[name]['seconds']:.0f} s): {figures_text(figures)}\n")
        for text, ok in goals:
            print(f"{'reached' if ok else 'MISSED '}  {text}")
            is_reached = is_reached and ok
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2))
    return 1 if options.check and not is_reached else 0


if __name__ == "__main__":
    sys.exit(main())
