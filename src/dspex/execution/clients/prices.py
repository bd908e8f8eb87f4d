"""Prices of models: a snapshot of public price lists."""

import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

Tiers = tuple[tuple[int, float], ...]
_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


class Price(msgspec.Struct, frozen=True):
    """US dollars per million tokens, as ascending tiers of (minimum input tokens, price)."""

    input: Tiers
    output: Tiers
    cached: Tiers

    def cost(self, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0) -> float:
        """Return the cost of one call in US dollars; `cached_tokens` are part of `input_tokens`."""
        fresh = input_tokens - cached_tokens
        parts = ((fresh, self.input), (cached_tokens, self.cached), (output_tokens, self.output))
        return sum(count * _tier(tiers, input_tokens) for count, tiers in parts) / 1e6


def _tier(tiers: Tiers, input_tokens: int) -> float:
    return next(price for start, price in reversed(tiers) if input_tokens >= start)


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    text = files("dspex.execution.clients").joinpath("prices.json").read_bytes()
    return msgspec.json.decode(text)["models"]  # type: ignore[no-any-return]


@lru_cache(maxsize=1024)
def price_of(model: str) -> Price | None:
    """Return the price of `model` ("openai/gpt-4o-mini", any date suffix optional), or None."""
    name = model.lower()
    row = _table().get(name) or _table().get(_DATE.sub("", name))
    if row is None:
        return None
    input_tiers, output_tiers, cached_tiers = (_tiers(part) for part in row)
    return Price(
        input_tiers or ((0, 0.0),),
        output_tiers or ((0, 0.0),),
        cached_tiers or input_tiers or ((0, 0.0),),
    )


def _tiers(part: Any) -> Tiers:
    if part is None:
        return ()
    return (
        tuple((start, price) for start, price in part) if isinstance(part, list) else ((0, part),)
    )
