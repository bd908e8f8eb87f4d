"""The ledger of a budget: what is spent, what may have been, and what calls under way may still use."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from dspex.clock import Clock, SystemClock
from dspex.errors import BudgetError, ContextTooLongError, DefinitionError, RateLimitedError, UnavailableError
from dspex.execution.clients.bounds import PromptBounds
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.language_model import Request, Response
from dspex.execution.clients.prices import Price
from dspex.language.records import Usage

REPLY = 4096  # the limit of a reply where neither request nor model says one
_UNBILLED = frozenset({500, 503, 529})  # of the answers from 500 on, those that no gateway gives in another's place


class Amount(msgspec.Struct, frozen=True):
    """Calls, and the tokens, dollars and seconds that they use at most."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum."""
        return Amount(
            self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd, self.seconds + other.seconds
        )


@dataclass(slots=True, kw_only=True)
class Reservation:
    """What a call under way may use; `reply` is the limit of its reply, None where no limit is needed.

    `is_squeezed` says that the budget leaves less for the reply than the call would have got otherwise.
    """

    model: ModelIdentity
    request: Request
    began: float
    tokens: int = 0
    usd: float = 0.0
    reply: int | None = None
    is_squeezed: bool = False


@dataclass(frozen=True, slots=True)
class _Room:
    """How many tokens of reply one limit allows: beside the calls under way, and alone."""

    limit: str
    now: float
    alone: float


class Budget:
    """What may be spent in all: US dollars, tokens, calls and seconds; shared by whoever is given it, on any thread.

    Guaranteed, whatever is under way at once: no call is sent after which dollars, tokens or calls could pass their
    limits. Every attempt is a call, those that fail and those of `Retrying` and `Fallback` too. What a call may use is
    the bytes of its prompt (no tokenizer makes more tokens of it) and the limit of its reply: its own `max_tokens`,
    else the model's known limit, else `max_tokens` is set to 4096, or to less where less is left. A call that would
    fit but for calls under way waits for them. A failed call that may have been answered, by a timeout say, is booked
    with all that it might have used, and so is an answer without counts of tokens.

    Not guaranteed: the limits hold as far as the model keeps to `max_tokens`, the provider counts and charges as its
    price list says, and nothing of the account is used elsewhere. A wrapper that asks several times within one call
    has to say so (`lost` and `another`).

    Seconds run from the first call on; when they are over, calls under way are cancelled. No call is begun that would
    have to be quicker than every one before it.
    """

    def __init__(  # limits and collaborators, all named
        self,
        *,
        usd: float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        seconds: float | None = None,
        price: Callable[[str], Price | None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take the limits; None is no limit.

        `price` returns what a model costs by its label (see `ModelIdentity`); public price lists say so by default.

        Raises:
            DefinitionError: a limit is no number, or below 0.
        """
        for name, limit in {"usd": usd, "tokens": tokens, "calls": calls, "seconds": seconds}.items():
            if limit is not None and not (isinstance(limit, int | float) and limit >= 0):
                raise DefinitionError(f"the limit of a budget in {name} is a number from 0, not {limit!r}")
        self.usd = usd
        self.tokens = tokens
        self.calls = calls
        self.seconds = seconds
        self._price = price
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._spent = Usage()
        self._lost = Amount()
        self._kept = Amount()
        self._dollars = 0.0
        self._counted: dict[int, tuple[object, int]] = {}
        self._open: dict[int, Reservation] = {}
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._bounds = PromptBounds()
        self._longest: dict[str, int] = {}
        self._quickest: dict[str, float] = {}
        self._began: float | None = None
        self._rested: float | None = None

    @property
    def spent(self) -> Usage:
        """What is known to have been used so far; a failed call is a call."""
        return self._spent

    @property
    def lost(self) -> Amount:
        """The failed calls among these, and what they may have used besides; counted against the limits too."""
        return self._lost

    def book(self, usage: Usage | None = None, lost: Amount | None = None) -> None:
        """Count what was used elsewhere, in an earlier life of the same work."""
        with self._lock:
            if usage is not None:
                self._add(usage, 0.0 if usage.cost_usd is None else usage.cost_usd)
            if lost is not None:
                self._lose(lost)

    def counted(self, source: object) -> int:
        """Return how many entries of a record of spending are counted here; see `count`."""
        return self._counted.get(id(source), (source, 0))[1]

    def count(self, source: object, entries: int) -> None:
        """Note that so many entries of a record are counted here, so that whoever reads it again books no more."""
        self._counted[id(source)] = source, entries  # it is held, so that its id stays its own

    def keep(self, amount: Amount) -> None:
        """Keep so much back for later, in place of what was kept so far; nobody waits for it."""
        with self._lock:
            self._kept = amount
            self._wake_all()

    def begin(self, elapsed: float = 0.0) -> None:
        """Let the seconds run from now on, if they do not yet; so many are over already. After a rest they go on."""
        if self._began is None:
            self._began = self.now() - elapsed
        elif self._rested is not None:
            self._began += self.now() - self._rested
        self._rested = None

    def rest(self) -> None:
        """Let no seconds count until the next call, or until `begin`: the work is done, and may be taken up again."""
        if self._began is not None and self._rested is None:
            self._rested = self.now()

    def defer(self, seconds: float) -> None:
        """Let so many seconds not count."""
        if self._began is not None:
            self._began += seconds

    @property
    def elapsed(self) -> float:
        """The seconds that count so far."""
        if self._began is None:
            return 0.0
        return (self.now() if self._rested is None else self._rested) - self._began

    def left_seconds(self) -> float | None:
        """Return the seconds that are left, below 0 where they are over, None where there is no limit."""
        return None if self.seconds is None else self.seconds - self.elapsed - self._kept.seconds

    def time_is_up(self) -> BudgetError:
        """Return the error for a call that the time does not suffice for."""
        return BudgetError(f"the budget of {self.seconds:g} seconds is used up", limit="seconds")

    async def admit(self, request: Request, model: ModelIdentity | str, *, reply: int | None = None) -> Reservation:
        """Set aside what `request` may use, after waiting for calls under way where need be.

        Hand the answer to `settle`, `fail` or `release`, exactly one of them. `reply` is the model's own limit of a
        reply, where it is known.

        Raises:
            BudgetError: it would pass a limit, or there is one in dollars and the price of `model` is unknown.
        """
        self.begin()
        identity = identify(model)
        while True:
            with self._lock:
                wanted = self._wanted(request, identity, reply=reply)
                if wanted is not None:
                    self._open[id(wanted)] = wanted
                    return wanted
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append((asyncio.get_running_loop(), turn))
            try:
                async with asyncio.timeout(self.left_seconds()):
                    await turn
            except TimeoutError:
                raise self.time_is_up() from None

    def settle(self, held: Reservation, response: Response) -> None:
        """Book what a call has used."""
        usage = response.usage
        with self._lock:
            self._close(held)
            if usage.calls and not usage.total_tokens:
                self._spent += usage
                self._lose(Amount(0, held.tokens, held.usd))
                return
            dollars = usage.cost_usd
            if dollars is None:
                price = None if self.usd is None else self._known_price(held.model)
                dollars = 0.0 if price is None else price.cost(usage.input_tokens, usage.output_tokens)
            self._add(usage, dollars)
            if usage.calls:
                self._learn(held, usage)

    def fail(self, held: Reservation, error: BaseException) -> Amount:
        """Book a call that had no answer, and return what was booked."""
        if isinstance(error, BudgetError | DefinitionError | UnavailableError):
            found = Amount()  # it was not sent
        elif _is_unbilled(error):
            found = Amount(1)
        else:
            found = Amount(1, held.tokens, held.usd)
        with self._lock:
            self._close(held)
            self._lose(found)
        return found

    def release(self, held: Reservation) -> None:
        """Set aside no longer what `held` might have used: the call was not made."""
        with self._lock:
            self._close(held)

    def _learn(self, held: Reservation, usage: Usage) -> None:
        model, seconds = held.model.label, self.now() - held.began
        self._quickest[model] = min(seconds, self._quickest.get(model, seconds))
        self._longest[model] = max(usage.output_tokens, self._longest.get(model, 1))
        if held.reply is not None and usage.calls == 1:
            self._bounds.learn(model, held.request, tokens=usage.input_tokens)

    def _add(self, usage: Usage, dollars: float) -> None:
        self._spent += usage
        self._dollars += dollars

    def _lose(self, lost: Amount) -> None:
        self._lost += lost
        if lost.calls:
            self._spent += Usage(calls=lost.calls)

    def _close(self, held: Reservation) -> None:
        del self._open[id(held)]
        self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for loop, turn in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, turn)

    def _wanted(self, request: Request, model: ModelIdentity, *, reply: int | None) -> Reservation | None:
        """Return what the call may use; None where it has to wait."""
        left = self.left_seconds()
        if left is not None and left <= self._quickest.get(model.label, 0.0):
            raise self.time_is_up()
        is_waiting = False
        if self.calls is not None:
            used = self._spent.calls + self._kept.calls
            if used + 1 > self.calls:
                self._refuse("calls", self.calls, used=used, wanted=1)
            is_waiting = used + len(self._open) + 1 > self.calls
        made = Reservation(model=model, request=request, began=self.now())
        if self.tokens is not None or self.usd is not None:
            is_waiting = not self._set_aside(made, known=reply) or is_waiting
        return None if is_waiting else made

    def _set_aside(self, made: Reservation, *, known: int | None) -> bool:
        """Fill in tokens, dollars and the limit of the reply; say whether they are there now."""
        request, model = made.request, made.model.label
        given = self._bounds.of(model, request)
        price = self._price_of(made.model) if self.usd is not None else None
        rooms = self._rooms(given, price)
        usual = request.max_tokens or known or REPLY
        least = request.max_tokens or min(usual, self._longest.get(model, 1))
        for room in rooms:
            if room.alone < least:
                self._refuse_reply(room.limit, given, least=least, price=price)
        now = min(room.now for room in rooms)
        if now < usual and self._open:
            return False
        made.reply, made.is_squeezed = int(min(usual, now)), now < usual
        made.tokens = given + made.reply
        made.usd = 0.0 if price is None else price.cost(given, made.reply)
        return True

    def _rooms(self, given: int, price: Price | None) -> list[_Room]:
        rooms: list[_Room] = []
        if self.tokens is not None:
            alone = self.tokens - self._used_tokens - given
            rooms.append(_Room("tokens", alone - sum(held.tokens for held in self._open.values()), alone))
        if self.usd is not None and price is not None:
            money = self.usd - self._used_usd - price.cost(given, 0)
            held = sum(held.usd for held in self._open.values())
            each = (price.cost(given, 1_000_000) - price.cost(given, 0)) / 1e6
            rooms.append(_Room("usd", _fitting(money - held, each), _fitting(money, each)))
        return rooms

    @property
    def _used_tokens(self) -> int:
        return self._spent.total_tokens + self._lost.tokens + self._kept.tokens

    @property
    def _used_usd(self) -> float:
        return self._dollars + self._lost.usd + self._kept.usd

    def _known_price(self, model: ModelIdentity) -> Price | None:
        return model.price if self._price is None else self._price(model.label)

    def _price_of(self, model: ModelIdentity) -> Price:
        price = self._known_price(model)
        if price is None:
            said = f"the price of {model.label!r} is unknown, so a budget in dollars cannot be kept"
            raise BudgetError(f"{said}; limit tokens or calls", limit="usd")
        return price

    def _refuse_reply(self, limit: str, given: int, *, least: int, price: Price | None) -> None:
        if limit == "tokens" or price is None:
            self._refuse(limit, self.tokens or 0, used=self._used_tokens, wanted=given + least)
        else:
            wanted = price.cost(given, least)
            self._refuse(limit, self.usd or 0.0, used=self._used_usd, wanted=wanted)

    def _refuse(self, what: str, limit: float, *, used: float, wanted: float) -> None:
        raise BudgetError(
            f"the budget of {limit:g} {what} does not allow this call: {used:g} are spent or kept, and it may use "
            f"{wanted:g}",
            limit=what,
        )

    def now(self) -> float:
        """Return the time in seconds, from an arbitrary start."""
        return self._clock.monotonic_ns() / 1e9


def _fitting(money: float, each: float) -> float:
    """Return how many tokens `money` pays."""
    if money < 0:
        return -1
    return math.inf if each <= 0 else math.floor(money / each)


def _is_unbilled(error: BaseException) -> bool:
    """Return whether an error says that nothing was computed: refused before the work, or never sent."""
    if isinstance(error, RateLimitedError | ContextTooLongError):
        return True
    context = getattr(error, "context", {})  # any exception may come
    status = context.get("status")
    if context.get("is_sent") is False:
        return True
    return isinstance(status, int) and ((400 <= status < 500 and status != 408) or status in _UNBILLED)


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
