"""Draw docs/front.svg: the front of one search on a simulated model.

python scripts/plot_front.py
"""

import asyncio
import sys
from pathlib import Path

import dspex
from dspex.testing import SimulatedModel

TARGET = Path(__file__).resolve().parents[1] / "docs" / "front.svg"


async def main() -> None:
    """Search for accuracy and cost as docs/optimize.md does, and draw the outcome."""
    rows = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
    program = dspex.Predict("question -> answer").with_variables(
        dspex.Text(
            "Answer.",
            options=("Answer.", "Be careful and exact.", "Think step by step."),
            name="self.instructions",
        ),
        dspex.Float(0, 1.5, name="self.temperature"),
    )
    recipe = dspex.Joint(
        trials=40,
        cohort=8,
        first_rows=15,
        keep=2,
        instructions=1,
        objectives=("exact_match", "-usd"),
    )
    with dspex.context(model=SimulatedModel(seed=1)):
        outcome = await dspex.aoptimize(
            program,
            recipe,
            train=dspex.Dataset.from_rows(rows),
            metric=dspex.exact_match,
            search=dspex.Search(insists=True),
        )
    TARGET.write_text(outcome.plot(x="usd", y="exact_match") + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(outcome.trials)} trials, best {outcome.best.score:.2f}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
