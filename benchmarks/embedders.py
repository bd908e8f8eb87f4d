"""The offline embedder on real questions: what it finds, and what it costs.

    python benchmarks/embedders.py [--quick] [--check]

For 400 questions of customers (banking77, test), the nearest of 2,000 others (train) has to have
the same intent. SQLite's full-text search does the same in the same run. Each embedder runs in a
separate process on one thread; CPU and memory are those of that process, and so is the time to load
the model. ONNX Runtime is measured if it is installed; its vectors have to be the same.

The data is in `../shared` beside the repository, or in DSPEX_SHARED.
"""

import argparse
import asyncio
import csv
import importlib.util
import json
import os
import random
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("DSPEX_SHARED", HERE.parents[1] / "shared"))
GOALS = {"offline, hit@1": 0.86, "least cosine to onnxruntime": 0.99999}
IMPORT = "import resource, sys\n{}\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
YARDSTICK = "from pydantic import BaseModel, create_model, TypeAdapter; import msgspec, asyncio"


def sample(split: str, count: int) -> list[tuple[str, str]]:
    """Return texts with their intents, the same in each run."""
    with (SHARED / "data" / "banking77" / f"{split}.csv").open(encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    return random.Random(0).sample(rows, count)


def side(encoder: str, target: Path, *, runs: int) -> None:
    """Embed everything in this process, and write figures and vectors."""
    if encoder == "numpy":
        sys.modules.update({"onnxruntime": None})  # as if it was not installed
    import numpy

    from dspex.models import OfflineEmbedder

    documents, queries = sample("train", 2000), sample("test", 400)
    texts = [text for text, _ in (*documents, *queries)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def measure() -> dict[str, float]:
        embedder, times, start = OfflineEmbedder(), [], time.process_time()
        await embedder.embed(["load the model"])
        load = time.process_time() - start
        for _ in range(runs):
            start = time.process_time()
            vectors = (await embedder.embed(texts)).vectors
            times.append(time.process_time() - start)
        start = time.process_time()
        for text, _ in queries:
            await embedder.embed([text], "query")
        alone = time.process_time() - start
        numpy.save(target / f"{encoder}.npy", vectors)
        nearest = (vectors[2000:] @ vectors[:2000].T).argmax(axis=1)
        hits = [documents[n][1] == intent for n, (_, intent) in zip(nearest, queries, strict=True)]
        return {
            "hit@1": sum(hits) / len(hits),
            "load, CPU s": load,
            "a text in batches, CPU ms": 1000 * min(times) / len(texts),
            "a text alone, CPU ms": 1000 * alone / len(queries),
            "memory, MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
        }

    (target / f"{encoder}.json").write_text(json.dumps(asyncio.run(measure())), encoding="utf-8")


def full_text() -> float:
    """Return hit@1 of SQLite's full-text search."""
    documents, queries = sample("train", 2000), sample("test", 400)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE d USING fts5(text, intent UNINDEXED, tokenize=porter)")
    connection.executemany("INSERT INTO d VALUES (?, ?)", documents)
    hits = 0
    for text, intent in queries:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", text))
        row = connection.execute(
            "SELECT intent FROM d WHERE d MATCH ? ORDER BY bm25(d) LIMIT 1", (words,)
        ).fetchone()
        hits += row is not None and row[0] == intent
    return hits / len(queries)


def import_cpu(code: str) -> float:
    """Return the least CPU seconds of a Python process that imports something."""
    command = [sys.executable, "-c", IMPORT.format(code)]
    return min(float(subprocess.check_output(command, text=True)) for _ in range(5))


def measure(*, runs: int) -> dict[str, float]:
    figures = {
        "import of dspex / of pydantic and msgspec": import_cpu("import dspex")
        / import_cpu(YARDSTICK),
        "full-text search, hit@1": full_text(),
    }
    encoders = {"numpy": "offline"}
    if importlib.util.find_spec("onnxruntime"):
        encoders["onnxruntime"] = "onnxruntime"
    else:
        print("onnxruntime is not measured: it is not installed")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        for encoder, name in encoders.items():
            command = [sys.executable, __file__, "--side", encoder, folder, f"--runs={runs}"]
            subprocess.run(command, check=True)
            rows = json.loads((target / f"{encoder}.json").read_text(encoding="utf-8"))
            figures |= {f"{name}, {what}": value for what, value in rows.items()}
        if "onnxruntime" in encoders:
            import numpy

            ours, theirs = (numpy.load(target / f"{encoder}.npy") for encoder in encoders)
            figures["least cosine to onnxruntime"] = float((ours * theirs).sum(axis=1).min())
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="embed everything once, not 5 times")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side[0], Path(options.side[1]), runs=options.runs)
        return 0
    if not (SHARED / "data" / "banking77").is_dir():
        print(f"there is no banking77 in {SHARED} (set DSPEX_SHARED)")
        return 1
    code = "import sys, dspex; assert not {'numpy', 'onnxruntime'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    figures = measure(runs=1 if options.quick else 5)
    for name, value in figures.items():
        goal = f"   (at least {GOALS[name]:g})" if name in GOALS else ""
        print(f"{name:44}{value:10.4g}{goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "embedders.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(options.check and any(figures.get(name, 1) < goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
