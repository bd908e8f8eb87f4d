"""Six intents of banking77, from the shared data (`../shared` beside the repository, or DSPEX_SHARED); no benchmark."""

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
    """Return so many rows of each intent, intent by intent."""
    import dspex  # the side of dspy, which takes the intents alone, is measured without it

    data = dspex.Dataset.from_file(SHARED / "data" / "banking77" / f"{split}.csv")
    found = [
        {"text": row["text"], "intent": intent}
        for intent in INTENTS
        for row in data.where(category=intent).sample(per_class, seed=seed)
    ]
    return dspex.Dataset.from_rows(found, name=f"banking77 {split}")
