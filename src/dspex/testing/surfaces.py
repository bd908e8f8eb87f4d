"""How probable a right answer is, by what a prompt holds: known surfaces to measure optimizers against."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

VOCABULARY = ("careful", "exact", "expert", "brief", "poem")
Demos = Sequence[tuple[int, bool]]


class ResponseSurface(Protocol):
    """The chance of a right answer, and the length of a reply."""

    def probability(self, system: str, demos: Demos, temperature: float) -> float:
        """Return the chance under a system message, (question, is right) demonstrations and a temperature."""
        ...

    def tokens(self, system: str) -> int:
        """Return how long a reply is."""
        ...


def reasons(system: str) -> bool:
    """Whether a system message asks for reasoning: by the word "step", or by a field for it."""
    return "step" in system.lower() or "[[ ## reasoning ## ]]" in system


def useful_share(demos: Demos, useful: int) -> float:
    """Return how many of four useful demonstrations there are, from 0 to 1; their questions divide by `useful`."""
    return min(4, sum(is_right and number % useful == 0 for number, is_right in demos)) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Effects that add up on the logit scale, and effects of two things together.

    Args:
        base: with nothing set.
        words: what a word in the instructions adds, whatever its case.
        demonstrations: what the n-th useful demonstration adds; a useful one is right, and its question's number
            divides by `useful`.
        useful: see there.
        harmful: what a wrong demonstration takes away.
        reasoning: what asking for reasoning adds; it also makes replies `long` tokens instead of `short` ones.
        together: what two features add when both are there: words, "demonstrations" (by their useful share) and
            "reasoning".
        warmth: the best temperature, without reasoning and with it.
        steepness: what a distance of one from the best temperature takes away.
        short: tokens of a reply.
        long: tokens of a reply with reasoning.
    """

    base: float = -1.0
    words: Mapping[str, float] = field(default_factory=lambda: {"careful": 0.8, "exact": 0.6, "poem": -1.0})
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
        """Return a surface drawn at random: hard as it is, and with much to gain.

        The base is -1.5. Effects of words are N(0.2, 0.7), of reasoning N(0.3, 0.7), of four useful demonstrations
        U(0.5, 2) with halving steps; each pair of features has N(0, `together`), the best temperatures are U(0, 1).
        """
        rng = random.Random(f"{seed}/surface")  # noqa: S311  # draws parameters, keeps no secret
        words = {word: rng.gauss(0.2, 0.7) for word in VOCABULARY}
        gain = rng.uniform(0.5, 2.0)
        features = [*VOCABULARY, "demonstrations", "reasoning"]
        reasoning = rng.gauss(0.3, 0.7)
        warmth = rng.random(), rng.random()
        steepness = rng.uniform(0.5, 2.5)
        pairs = {
            (one, other): rng.gauss(0, 1) * together
            for place, one in enumerate(features)
            for other in features[place + 1 :]
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
        """Return the chance of a right answer."""
        said, thinks = system.lower(), reasons(system)
        there = {word: float(word in said) for word in (*VOCABULARY, *self.words)}
        there |= {"demonstrations": useful_share(demos, self.useful), "reasoning": float(thinks)}
        value = self.base + sum(worth * there[word] for word, worth in self.words.items()) + self.reasoning * thinks
        value += sum(self.demonstrations[: round(4 * there["demonstrations"])])
        value -= self.harmful * sum(not is_right for _, is_right in demos)
        value += sum(worth * there[one] * there[other] for (one, other), worth in self.together.items())
        value -= self.steepness * (temperature - self.warmth[thinks]) ** 2
        return 1 / (1 + math.exp(-value))

    def tokens(self, system: str) -> int:
        """Return how long a reply is."""
        return self.long if reasons(system) else self.short


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """Three abilities of which each has to succeed: to understand the task, to know how answers look, to work it out.

    The chance is their product, so that better instructions show little while demonstrations are missing, and the other
    way round. Heat disturbs the working out; reasoning helps it, and suffers less from heat.

    Args:
        words: what a word adds to understanding, on the logit scale.
        understanding: with no word.
        knowing: with no demonstration; four useful ones add `shown`.
        shown: see there.
        working: without reasoning; with it `reasoning` more.
        reasoning: see there.
        useful: as in `Surface`.
        warmth: the best temperature, without reasoning and with it.
        steepness: what a distance of one from the best temperature takes away.
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
        """Return one drawn at random; words are N(0.3, 0.8), the rest is uniform."""
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
        """Return the chance of a right answer."""
        said, thinks = system.lower(), reasons(system)
        understands = self.understanding + sum(worth for word, worth in self.words.items() if word in said)
        knows = self.knowing + self.shown * useful_share(demos, self.useful)
        knows -= 0.5 * sum(not is_right for _, is_right in demos)
        works = self.working + self.reasoning * thinks - self.steepness * (temperature - self.warmth[thinks]) ** 2
        chance = 1.0
        for value in (understands, knows, works):
            chance /= 1 + math.exp(-value)
        return chance

    def tokens(self, system: str) -> int:
        """Return how long a reply is."""
        return 60 if reasons(system) else 10
