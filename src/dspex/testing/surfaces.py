"""Known response surfaces to measure optimizers: the probability of a right answer for a prompt."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

VOCABULARY = ("careful", "exact", "expert", "brief", "poem")
Demos = Sequence[tuple[int, bool]]


class ResponseSurface(Protocol):
    """The probability of a right answer, and the length of a reply."""

    def probability(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the probability; `demos` are pairs of a question and whether it is right."""
        ...

    def tokens(self, system: str) -> int:
        """Return the number of tokens of a reply."""
        ...


def reasons(system: str) -> bool:
    """Return whether a system message has the word "step" or a field for reasoning."""
    return "step" in system.lower() or "[[ ## reasoning ## ]]" in system


def useful_share(demos: Demos, useful: int) -> float:
    """Return the share of four useful demonstrations; `useful` divides their question numbers."""
    return min(4, sum(is_right and number % useful == 0 for number, is_right in demos)) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Effects of features, and of pairs of features, that add up on the logit scale.

    Args:
        base: the value without any feature.
        words: what a word in the instructions adds, in any case.
        demonstrations: what the n-th useful demonstration adds; it is useful if it is right and
            `useful` divides the number of its question.
        useful: see there.
        harmful: what a wrong demonstration subtracts.
        reasoning: what reasoning adds; replies then have `long` tokens instead of `short`.
        together: what a pair of features adds if both are present: words, "demonstrations" (by
            their useful share) and "reasoning".
        warmth: the best temperature without and with reasoning.
        steepness: what a distance of 1 from the best temperature subtracts.
        short: tokens of a reply.
        long: tokens of a reply with reasoning.
    """

    base: float = -1.0
    words: Mapping[str, float] = field(
        default_factory=lambda: {"careful": 0.8, "exact": 0.6, "poem": -1.0}
    )
    demonstrations: Sequence[float] = (0.6, 0.4, 0.2, 0.1)
    useful: int = 3
    harmful: float = 0.5
    reasoning: float = 0.7
    together: Mapping[tuple[str, str], float] = field(default_factory=dict)
    warmth: tuple[float, float] = (0.2, 0.8)
    steepness: float = 1.5
    short: int = 10
    long: int = 60

    @classmethod
    def drawn(cls, seed: int, *, together: float = 0.7) -> "Surface":
        """Return a random surface that starts low and can improve much.

        The base is -1.5. Effects of words are N(0.2, 0.7), of reasoning N(0.3, 0.7), of four useful
        demonstrations U(0.5, 2) with halving steps; each pair of features has N(0, `together`), the
        best temperatures are U(0, 1).
        """
        rng = random.Random(f"{seed}/surface")  # noqa: S311  # parameters, not secrets
        words = {word: rng.gauss(0.2, 0.7) for word in VOCABULARY}
        gain = rng.uniform(0.5, 2.0)
        features = [*VOCABULARY, "demonstrations", "reasoning"]
        reasoning = rng.gauss(0.3, 0.7)
        warmth = rng.random(), rng.random()
        steepness = rng.uniform(0.5, 2.5)
        pairs = {
            (first, second): rng.gauss(0, 1) * together
            for place, first in enumerate(features)
            for second in features[place + 1 :]
        }
        return cls(
            base=-1.5,
            words=words,
            demonstrations=tuple(gain * share for share in (8 / 15, 4 / 15, 2 / 15, 1 / 15)),
            reasoning=reasoning,
            together=pairs if together else {},
            warmth=warmth,
            steepness=steepness,
        )

    def probability(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the probability of a right answer."""
        text, thinks = system.lower(), reasons(system)
        features = {word: float(word in text) for word in (*VOCABULARY, *self.words)}
        features |= {"demonstrations": useful_share(demos, self.useful), "reasoning": float(thinks)}
        value = (
            self.base
            + sum(worth * features[word] for word, worth in self.words.items())
            + self.reasoning * thinks
        )
        value += sum(self.demonstrations[: round(4 * features["demonstrations"])])
        value -= self.harmful * sum(not is_right for _, is_right in demos)
        value += sum(
            worth * features[first] * features[second]
            for (first, second), worth in self.together.items()
        )
        value -= self.steepness * (temperature - self.warmth[thinks]) ** 2
        return 1 / (1 + math.exp(-value))

    def tokens(self, system: str) -> int:
        """Return the number of tokens of a reply."""
        return self.long if reasons(system) else self.short


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """Three abilities that must all succeed: understand the task, know the answer format, solve it.

    The probability is their product, so better instructions have little effect without
    demonstrations, and vice versa. A high temperature harms solving, but less with reasoning, which
    helps solving.

    Args:
        words: what a word adds to understanding, on the logit scale.
        understanding: the value without any word.
        knowing: the value without demonstrations; four useful ones add `shown`.
        shown: see there.
        working: the value without reasoning, which adds `reasoning`.
        reasoning: see there.
        useful: as in `Surface`.
        warmth: the best temperature without and with reasoning.
        steepness: what a distance of 1 from the best temperature subtracts.
    """

    words: Mapping[str, float]
    understanding: float = 0.0
    knowing: float = -0.5
    shown: float = 2.5
    working: float = 0.5
    reasoning: float = 1.0
    useful: int = 3
    warmth: tuple[float, float] = (0.2, 0.8)
    steepness: float = 1.5

    @classmethod
    def drawn(cls, seed: int) -> "Bottleneck":
        """Return a random surface; words are N(0.3, 0.8), all else is uniform."""
        rng = random.Random(f"{seed}/bottleneck")  # noqa: S311
        return cls(
            words={word: rng.gauss(0.3, 0.8) for word in VOCABULARY},
            understanding=rng.uniform(0.0, 1.5),
            knowing=rng.uniform(-0.5, 1.0),
            shown=rng.uniform(1.0, 3.0),
            working=rng.uniform(0.0, 1.5),
            reasoning=rng.uniform(-0.5, 1.5),
            warmth=(rng.random(), rng.random()),
            steepness=rng.uniform(0.5, 3.0),
        )

    def probability(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the probability of a right answer."""
        text, thinks = system.lower(), reasons(system)
        understands = self.understanding + sum(
            worth for word, worth in self.words.items() if word in text
        )
        knows = self.knowing + self.shown * useful_share(demos, self.useful)
        knows -= 0.5 * sum(not is_right for _, is_right in demos)
        works = (
            self.working
            + self.reasoning * thinks
            - self.steepness * (temperature - self.warmth[thinks]) ** 2
        )
        chance = 1.0
        for value in (understands, knows, works):
            chance /= 1 + math.exp(-value)
        return chance

    def tokens(self, system: str) -> int:
        """Return the number of tokens of a reply."""
        return 60 if reasons(system) else 10
