"""Rows of six banking77 intents, shared by the benchmarks; not a benchmark itself.

The data is in `../shared` beside the repository, or in DSPEX_SHARED.
"""

import os
from pathlib import Path

SHARED = Path(os.environ.get("DSPEX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
INTENTS = (
    "card_arrival",
    "lost_or_stolen_card",
    "exchange_rate",
    "top_up_failed",
    "cash_withdrawal_charge",
    "change_pin",
)


def rows(split: str, per_class: int, seed: int):
    """Return `per_class` rows of each intent, grouped by intent."""
    import dspex  # dspy's side imports only INTENTS and is measured without dspex

    data = dspex.Dataset.from_file(SHARED / "data" / "banking77" / f"{split}.csv")
    examples = [
        {"text": row["text"], "intent": intent}
        for intent in INTENTS
        for row in data.where(category=intent).sample(per_class, seed=seed)
    ]
    return dspex.Dataset.from_rows(examples, name=f"banking77 {split}")
