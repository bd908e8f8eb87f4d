"""A budget: what is spent, what may have been spent, and what calls in progress may still use."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import (
    BudgetError,
    ContextTooLongError,
    DefinitionError,
    MediaError,
    ModelError,
    RateLimitedError,
    UnavailableError,
)
from dspex.execution.clients.bounds import PromptBounds
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.language_model import Request, Response
from dspex.execution.clients.prices import Price
from dspex.language.records import Usage
from dspex.sync import wake

DEFAULT_REPLY_LIMIT = 4096  # tokens, if neither the request nor the model has a limit
_UNBILLED = frozenset({500, 503, 529})  # statuses from 500 on that gateways do not substitute


class Spend(msgspec.Struct, frozen=True):
    """Calls, and upper bounds of the tokens, dollars and seconds that they use."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, amount: "Spend") -> "Spend":
        """Return the sum."""
        return Spend(
            self.calls + amount.calls,
            self.tokens + amount.tokens,
            self.usd + amount.usd,
            self.seconds + amount.seconds,
        )


@dataclass(slots=True, kw_only=True)
class Reservation:
    """What a call in progress may use; `reply` is the limit of its reply, None if it needs none.

    `is_squeezed` says that the budget allows a shorter reply than the call would otherwise get.
    """

    model: ModelIdentity
    request: Request
    start: float
    tokens: int = 0
    usd: float = 0.0
    reply: int | None = None
    is_squeezed: bool = False


@dataclass(frozen=True, slots=True)
class _Headroom:
    """The reply tokens that one limit allows: now, and when no call is in progress."""

    limit: str
    available: float
    remaining: float


@checks_names
class Budget:
    """Limits on US dollars, tokens, calls and seconds in total; may be shared, across threads too.

    Guaranteed, for any number of concurrent calls: no call is sent that could exceed the limits on
    dollars, tokens or calls. Every attempt is a call, including failed ones and those of `Retrying`
    and `Fallback`. A call may use the bytes of its prompt (no tokenizer makes more tokens of it)
    and the limit of its reply: its own `max_tokens`, else the model's known limit, else
    `max_tokens` is set to 4096, or to what remains. A call that only concurrent calls keep from
    fitting waits for them. A failed call that may have been answered (after a timeout, for example)
    is booked with all that it might have used, and so is an answer without token counts.

    Not guaranteed: the limits hold if the model respects `max_tokens`, the provider counts and
    charges by its price list, and nothing else uses the account. A wrapper that asks several times
    within one call has to report it (`lost` and `another`).

    Seconds count from the first call. When they are over, calls in progress are cancelled. No call
    is started that would have to be faster than every earlier one.
    """

    def __init__(  # limits and collaborators, all named
        self,
        *,
        usd: float | None = None,
        tokens: float | None = None,
        calls: float | None = None,
        seconds: float | None = None,
        price: Callable[[str], Price | None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the limits; None means unlimited.

        `price` returns the price of a model by its label (see `ModelIdentity`); the default is the
        public price lists.

        Raises:
            DefinitionError: a limit is not a number, or below 0.
        """
        for name, limit in {
            "usd": usd,
            "tokens": tokens,
            "calls": calls,
            "seconds": seconds,
        }.items():
            if limit is not None and not (isinstance(limit, int | float) and limit >= 0):
                raise DefinitionError(
                    f"the limit of a budget in {name} must be a number of at least 0, not {limit!r}"
                )
        self.usd = usd
        self.tokens = tokens
        self.calls = calls
        self.seconds = seconds
        self._price = price
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._spent = Usage()
        self._lost = Spend()
        self._withheld = Spend()
        self._dollars = 0.0
        self._entry_counts: dict[int, tuple[object, int]] = {}
        self._open: dict[int, Reservation] = {}
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._bounds = PromptBounds()
        self._longest_reply: dict[str, int] = {}
        self._quickest_call: dict[str, float] = {}
        self._start: float | None = None
        self._paused_at: float | None = None

    @property
    def spent(self) -> Usage:
        """The known usage so far; failed calls are counted."""
        return self._spent

    @property
    def lost(self) -> Spend:
        """The failed calls among these, and what they may have used; counts against the limits."""
        return self._lost

    def book(self, usage: Usage | None = None, lost: Spend | None = None) -> None:
        """Add usage from elsewhere, such as an earlier run of the same work."""
        with self._lock:
            if usage is not None:
                self._add(usage, 0.0 if usage.cost_usd is None else usage.cost_usd)
            if lost is not None:
                self._lose(lost)

    def counted(self, source: object) -> int:
        """Return how many entries of a spending record are already booked here; see `count`."""
        return self._entry_counts.get(id(source), (source, 0))[1]

    def count(self, source: object, entries: int) -> None:
        """Remember how many entries of a record are booked here, to avoid booking them twice."""
        # keep the object alive, so that its id stays unique
        self._entry_counts[id(source)] = (source, entries)

    def keep(self, amount: Spend) -> None:
        """Withhold `amount` for later use, replacing the earlier amount; no call waits for it."""
        with self._lock:
            self._withheld = amount
            self._wake_all()

    def begin(self, elapsed: float = 0.0) -> None:
        """Start the clock at `elapsed` seconds, or resume it after `rest`; else do nothing."""
        if self._start is None:
            self._start = self.now() - elapsed
        elif self._paused_at is not None:
            self._start += self.now() - self._paused_at
        self._paused_at = None

    def rest(self) -> None:
        """Pause the clock until the next call or `begin`."""
        if self._start is not None and self._paused_at is None:
            self._paused_at = self.now()

    def defer(self, seconds: float) -> None:
        """Exclude `seconds` from the elapsed time."""
        if self._start is not None:
            self._start += seconds

    @property
    def elapsed(self) -> float:
        """The seconds counted so far."""
        if self._start is None:
            return 0.0
        return (self.now() if self._paused_at is None else self._paused_at) - self._start

    def left_seconds(self) -> float | None:
        """Return the remaining seconds (negative once they are over), None if unlimited."""
        return (
            None if self.seconds is None else self.seconds - self.elapsed - self._withheld.seconds
        )

    def time_is_up(self) -> BudgetError:
        """Return the error for a call that comes too late."""
        return BudgetError(f"the budget of {self.seconds:g} seconds is used up", limit="seconds")

    def check(self, who: str) -> None:
        """Raise if the known usage has reached a limit on tokens or dollars.

        Raises:
            BudgetError: the message starts with `who`.
        """
        tokens, usd, spent = self.tokens, self.usd, self._spent
        if tokens is not None and spent.total_tokens >= tokens:
            raise BudgetError(
                f"{who} has used {spent.total_tokens} of {tokens} tokens", limit="tokens"
            )
        if usd is not None and (spent.cost_usd is None or spent.cost_usd >= usd):
            raise BudgetError(f"{who} has spent {spent.cost_usd} of {usd:g} dollars", limit="usd")

    async def admit(
        self, request: Request, model: ModelIdentity | str, *, reply: int | None = None
    ) -> Reservation:
        """Reserve what `request` may use; if necessary, wait for calls in progress.

        Pass the reservation to exactly one of `settle`, `fail` or `release`. `reply` is the model's
        own reply limit, if known.

        Raises:
            BudgetError: the call could exceed a limit, or the limit is in dollars and the price of
                `model` is unknown.
        """
        self.begin()
        identity = identify(model)
        while True:
            with self._lock:
                reservation = self._try_reserve(request, identity, reply=reply)
                if reservation is not None:
                    self._open[id(reservation)] = reservation
                    return reservation
                turn = asyncio.get_running_loop().create_future()
                self._waiters.append((asyncio.get_running_loop(), turn))
            try:
                async with asyncio.timeout(self.left_seconds()):
                    await turn
            except TimeoutError:
                raise self.time_is_up() from None

    def settle(self, reservation: Reservation, response: Response) -> None:
        """Book the usage of a completed call."""
        usage = response.usage
        with self._lock:
            self._close(reservation)
            if usage.calls and not usage.total_tokens:
                self._spent += usage
                self._lose(Spend(0, reservation.tokens, reservation.usd))
                return
            dollars = usage.cost_usd
            if dollars is None:
                price = None if self.usd is None else self._known_price(reservation.model)
                dollars = (
                    0.0 if price is None else price.cost(usage.input_tokens, usage.output_tokens)
                )
            self._add(usage, dollars)
            if usage.calls:
                self._learn(reservation, usage)

    def fail(self, reservation: Reservation, error: BaseException) -> Spend:
        """Book a call without an answer, and return the booked amount."""
        if isinstance(error, BudgetError | DefinitionError | MediaError | UnavailableError):
            amount = Spend()  # it was not sent
        elif _is_unbilled(error):
            amount = Spend(1)
        else:
            amount = Spend(1, reservation.tokens, reservation.usd)
        with self._lock:
            self._close(reservation)
            self._lose(amount)
        return amount

    def release(self, reservation: Reservation) -> None:
        """Cancel the reservation of a call that was not made."""
        with self._lock:
            self._close(reservation)

    def _learn(self, reservation: Reservation, usage: Usage) -> None:
        model, seconds = reservation.model.label, self.now() - reservation.start
        self._quickest_call[model] = min(seconds, self._quickest_call.get(model, seconds))
        self._longest_reply[model] = max(usage.output_tokens, self._longest_reply.get(model, 1))
        if reservation.reply is not None and usage.calls == 1:
            self._bounds.learn(model, reservation.request, tokens=usage.input_tokens)

    def _add(self, usage: Usage, dollars: float) -> None:
        self._spent += usage
        self._dollars += dollars

    def _lose(self, lost: Spend) -> None:
        self._lost += lost
        if lost.calls:
            self._spent += Usage(calls=lost.calls)

    def _close(self, reservation: Reservation) -> None:
        del self._open[id(reservation)]
        self._wake_all()

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, deque()
        for loop, turn in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake, turn)

    def _try_reserve(
        self, request: Request, model: ModelIdentity, *, reply: int | None
    ) -> Reservation | None:
        """Return a reservation for the call, None if it has to wait."""
        remaining = self.left_seconds()
        if remaining is not None and remaining <= self._quickest_call.get(model.label, 0.0):
            raise self.time_is_up()
        must_wait = False
        if self.calls is not None:
            used = self._spent.calls + self._withheld.calls
            if used + 1 > self.calls:
                self._refuse("calls", self.calls, used=used, amount=1)
            must_wait = used + len(self._open) + 1 > self.calls
        reservation = Reservation(model=model, request=request, start=self.now())
        if self.tokens is not None or self.usd is not None:
            must_wait = not self._allocate(reservation, model_limit=reply) or must_wait
        return None if must_wait else reservation

    def _allocate(self, reservation: Reservation, *, model_limit: int | None) -> bool:
        """Fill in tokens, dollars and reply limit; return whether they are available now."""
        request, model = reservation.request, reservation.model.label
        prompt_tokens = self._bounds.of(model, request)
        price = self._price_of(reservation.model) if self.usd is not None else None
        headrooms = self._headrooms(prompt_tokens, price)
        target = model_limit or DEFAULT_REPLY_LIMIT
        minimum = min(target, self._longest_reply.get(model, 1))
        if request.max_tokens is not None:
            target = minimum = request.max_tokens
        for headroom in headrooms:
            if headroom.remaining < minimum:
                self._refuse_reply(headroom.limit, prompt_tokens, minimum=minimum, price=price)
        available = min(headroom.available for headroom in headrooms)
        if available < target and self._open:
            return False
        reservation.reply, reservation.is_squeezed = int(min(target, available)), available < target
        reservation.tokens = prompt_tokens + reservation.reply
        reservation.usd = 0.0 if price is None else price.cost(prompt_tokens, reservation.reply)
        return True

    def _headrooms(self, prompt_tokens: int, price: Price | None) -> list[_Headroom]:
        headrooms: list[_Headroom] = []
        if self.tokens is not None:
            remaining = self.tokens - self._used_tokens - prompt_tokens
            headrooms.append(
                _Headroom(
                    "tokens",
                    remaining - sum(reservation.tokens for reservation in self._open.values()),
                    remaining,
                )
            )
        if self.usd is not None and price is not None:
            money = self.usd - self._used_usd - price.cost(prompt_tokens, 0)
            reserved = sum(reservation.usd for reservation in self._open.values())
            price_per_token = (
                price.cost(prompt_tokens, 1_000_000) - price.cost(prompt_tokens, 0)
            ) / 1e6
            headrooms.append(
                _Headroom(
                    "usd",
                    _affordable_tokens(money - reserved, price_per_token),
                    _affordable_tokens(money, price_per_token),
                )
            )
        return headrooms

    @property
    def _used_tokens(self) -> int:
        return self._spent.total_tokens + self._lost.tokens + self._withheld.tokens

    @property
    def _used_usd(self) -> float:
        return self._dollars + self._lost.usd + self._withheld.usd

    def _known_price(self, model: ModelIdentity) -> Price | None:
        return model.price if self._price is None else self._price(model.label)

    def _price_of(self, model: ModelIdentity) -> Price:
        price = self._known_price(model)
        if price is None:
            message = (
                f"the price of {model.label!r} is unknown, so a budget in dollars cannot be "
                "enforced"
            )
            raise BudgetError(f"{message}; limit tokens or calls", limit="usd")
        return price

    def _refuse_reply(
        self, limit: str, prompt_tokens: int, *, minimum: int, price: Price | None
    ) -> None:
        if limit == "tokens" or price is None:
            self._refuse(
                limit, self.tokens or 0, used=self._used_tokens, amount=prompt_tokens + minimum
            )
        else:
            amount = price.cost(prompt_tokens, minimum)
            self._refuse(limit, self.usd or 0.0, used=self._used_usd, amount=amount)

    def _refuse(self, unit: str, limit: float, *, used: float, amount: float) -> None:
        raise BudgetError(
            f"the budget of {limit:g} {unit} does not allow this call: {used:g} are spent or "
            f"reserved, and it may use {amount:g}",
            limit=unit,
        )

    def now(self) -> float:
        """Return the time in seconds, from an arbitrary start."""
        return self._clock.monotonic_ns() / 1e9


def _affordable_tokens(money: float, price_per_token: float) -> float:
    """Return how many tokens `money` pays for."""
    if money < 0:
        return -1
    return math.inf if price_per_token <= 0 else math.floor(money / price_per_token)


def _is_unbilled(error: BaseException) -> bool:
    """Return whether the error shows that nothing was computed: rejected early, or never sent."""
    if isinstance(error, RateLimitedError | ContextTooLongError):
        return True
    if not isinstance(error, ModelError):
        return False
    status = error.status
    if not error.is_sent:
        return True
    return status is not None and ((400 <= status < 500 and status != 408) or status in _UNBILLED)
