"""The usage of model calls: tokens, calls and cost."""

from importlib import import_module

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens, calls and cost; `+` adds every part.

    `cost_usd` is None if the price of any call is unknown: an unknown price never counts as zero.
    `by_model` has the same figures by model name.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    cost_usd: float | None = 0.0
    by_model: dict[str, "Usage"] = {}  # msgspec copies an empty default for each instance

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum."""
        if not other.calls and not other.by_model:
            return self
        if not self.calls and not self.by_model:
            return other
        models = dict(self.by_model)
        for name, usage in other.by_model.items():
            models[name] = models[name] + usage if name in models else usage
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            calls=self.calls + other.calls,
            cost_usd=None
            if self.cost_usd is None or other.cost_usd is None
            else self.cost_usd + other.cost_usd,
            by_model=models,
        )

    def _repr_html_(self) -> str:
        module = import_module("dspex.language.records.representation")
        markup: str = module.usage_html(self)
        return markup

    @property
    def total_tokens(self) -> int:
        """Input plus output tokens, which include cached and reasoning tokens."""
        return self.input_tokens + self.output_tokens

    def of_model(self, name: str) -> "Usage":
        """Return the same usage, attributed to one model."""
        return msgspec.structs.replace(self, by_model={name: self})
