"""Write `src/dspex/execution/clients/prices.json` from the package `genai-prices` (MIT).

    pip install genai-prices && python scripts/update_prices.py

Each row is a model name with US dollars per million input, output and cached input tokens. A tiered
price is a list of `[from this many input tokens, price]`.
"""

import datetime
import importlib.metadata
import json
import pathlib

from genai_prices import types
from genai_prices.data import providers

KEEP = {"openai", "anthropic", "google", "mistral", "groq", "deepseek"}
KEEP |= {"cohere", "x-ai", "together", "fireworks", "openrouter"}
TARGET = pathlib.Path(__file__).parent.parent / "src/dspex/execution/clients/prices.json"


def names(clause: object) -> list[str]:
    """Return the exact names that a matching rule accepts."""
    if isinstance(clause, types.ClauseEquals):
        return [clause.equals]
    if isinstance(clause, types.ClauseOr):
        return [name for part in clause.or_ for name in names(part)]
    return []


def number(price: object) -> object:
    """Return a price as JSON."""
    if price is None:
        return None
    if isinstance(price, types.TieredPrices):
        return [[0, float(price.base)], *([tier.start, float(tier.price)] for tier in price.tiers)]
    return float(price)


def main() -> None:
    """Write the snapshot."""
    table: dict[str, list[object]] = {}
    now = datetime.datetime.now(datetime.UTC)
    for provider in providers:
        for model in provider.models if provider.id in KEEP else ():
            price = model.get_prices(now)
            is_embedder = "embed" in model.id  # it has no output to pay for
            if price.input_mtok is None or (price.output_mtok is None and not is_embedder):
                continue
            row = [
                number(price.input_mtok),
                number(price.output_mtok),
                number(price.cache_read_mtok),
            ]
            table |= {
                f"{provider.id}/{name}".lower(): row for name in {model.id, *names(model.match)}
            }
    source = (
        f"genai-prices {importlib.metadata.version('genai-prices')} (MIT), {now.date().isoformat()}"
    )
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(table[name], separators=(',', ':'))}"
        for name in sorted(table)
    )
    TARGET.write_text(f'{{"source": {json.dumps(source)}, "models": {{\n{rows}\n}}}}\n')
    print(f"{len(table)} models from {source}")


if __name__ == "__main__":
    main()
