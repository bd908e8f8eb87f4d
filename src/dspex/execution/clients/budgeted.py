"""Limits on money, tokens and calls that hold before a call is made."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import BudgetError
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.prices import Price, price_of
from dspex.language.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

_CHARACTERS_PER_TOKEN = 3  # fewer than in most languages and models, so that the estimate is rather too high


@dataclass(slots=True)
class Reservation:
    """What a call under way, or several calls of later, may use."""

    tokens: int
    usd: float
    calls: int = 1


class Budget:
    """What may be spent in all: US dollars, tokens and calls; shared by whoever is given it, on any thread.

    A call is admitted only if everything spent, everything that calls under way may use, and its own estimate stay
    within. The estimate is the prompt's length and the reply's limit (`max_tokens`, else the longest reply so far).
    """

    def __init__(
        self,
        *,
        usd: float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        price: "Callable[[str], Price | None]" = price_of,
    ) -> None:
        """Take the limits; None is no limit."""
        self.usd = usd
        self.tokens = tokens
        self.calls = calls
        self._price = price
        self._lock = threading.Lock()
        self._spent = Usage()
        self._open: list[Reservation] = []
        self._longest = 0

    @property
    def spent(self) -> Usage:
        """What was used so far."""
        return self._spent

    def admit(self, request: Request, model: str) -> Reservation:
        """Set aside what `request` may use; hand the answer to `settle` in any case.

        Raises:
            BudgetError: it would pass a limit, or there is one in dollars and the price of `model` is unknown.
        """
        given = sum(len(message.content) for message in request.messages) // _CHARACTERS_PER_TOKEN + 1
        with self._lock:
            made = request.max_tokens or self._longest
            wanted = Reservation(given + made, self._dollars(model, given, made=made))
            self._check("calls", self.calls, self._calls(), wanted=1)
            tokens = self._spent.total_tokens + sum(held.tokens for held in self._open)
            self._check("tokens", self.tokens, tokens, wanted=wanted.tokens)
            usd = (self._spent.cost_usd or 0.0) + sum(held.usd for held in self._open)
            self._check("usd", self.usd, usd, wanted=wanted.usd)
            self._open.append(wanted)
        return wanted

    def set_aside(self, wanted: Reservation) -> Reservation:
        """Keep something back for later calls, even where not so much is left; hand it to `settle` before them."""
        with self._lock:
            self._open.append(wanted)
        return wanted

    def _calls(self) -> int:
        return self._spent.calls + sum(held.calls for held in self._open)

    def settle(self, held: Reservation, usage: Usage | None) -> None:
        """Book what a call has used; None where it failed."""
        with self._lock:
            self._open = [other for other in self._open if other is not held]
            if usage is not None:
                self._spent += usage
                self._longest = max(self._longest, usage.output_tokens)

    def _dollars(self, model: str, given: int, *, made: int) -> float:
        if self.usd is None:
            return 0.0
        price = self._price(model)
        if price is None:
            raise BudgetError(
                f"the price of {model!r} is unknown, so a budget in dollars cannot be kept; limit tokens or calls",
                limit="usd",
            )
        return price.cost(given, made)

    def _check(self, what: str, limit: float | None, used: float, *, wanted: float) -> None:
        if limit is not None and used + wanted > limit:
            raise BudgetError(
                f"the budget of {limit:g} {what} does not allow this call: {used:g} are spent or set aside, and it may "
                f"use {wanted:g}",
                limit=what,
            )


async def ask_within(budget: Budget, model: LanguageModel, request: Request, *, emit: Emit | None = None) -> Response:
    """Answer `request` by `model` if `budget` allows it."""
    held, used = budget.admit(request, model.name), None
    try:
        response = await ask(model, request, emit)
        used = response.usage
    finally:
        budget.settle(held, used)
    return response


class Budgeted:
    """Wraps a model: a call that would pass the budget is not made."""

    def __init__(self, model: LanguageModel, budget: Budget) -> None:
        """Take the model, and a budget that others may share."""
        self.model = model
        self.budget = budget
        self.name = model.name
        self.capabilities = model.capabilities

    def __repr__(self) -> str:
        return f"Budgeted({self.model!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request`, or raise `BudgetError` before it is sent."""
        return await ask_within(self.budget, self.model, request)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` piece by piece."""
        return await ask_within(self.budget, self.model, request, emit=emit)

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()
