"""Limits on money, tokens, calls and time that hold before a call is made."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import msgspec

from dspex.errors import BudgetError, ModelError
from dspex.execution.clients.budget import Amount, Budget, Reservation
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Wrapper

_CUT = frozenset({"length", "max_tokens", "MAX_TOKENS", "incomplete"})


@runtime_checkable
class ReplyLimited(Protocol):
    """A model that ends its replies after so many tokens where a request sets no limit."""

    reply_limit: int


@runtime_checkable
class Wrapping(Protocol):
    """A model around another one."""

    model: LanguageModel


class _Meter:
    """One call under one budget: its attempts, one after the other."""

    __slots__ = ("budget", "held", "is_inside", "is_over", "on_lost", "outer", "reply")

    def __init__(self, budget: Budget, model: LanguageModel, on_lost: Callable[[Amount], None] | None) -> None:
        self.budget = budget
        self.on_lost = on_lost
        self.outer = _under_way.get()
        self.reply = _reply_limit(model)
        self.held: Reservation | None = None
        self.is_inside = False
        self.is_over = False

    async def begin(self, request: Request, model: ModelIdentity) -> None:
        """Set aside what one attempt may use, and no longer what another one might have used."""
        held, self.held = self.held, None
        if held is not None:
            self.budget.release(held)
        self.held = await self.budget.admit(request, model, reply=self.reply)

    def fail(self, error: BaseException) -> None:
        """Book the attempt under way as one without an answer."""
        if self.held is not None:
            held, self.held = self.held, None
            found = self.budget.fail(held, error)
            if self.on_lost is not None and found.calls:
                self.on_lost(found)

    def settle(self, response: Response) -> None:
        """Book the attempt under way."""
        if self.held is None:
            return
        held, self.held = self.held, None
        self.budget.settle(held, response)
        if held.is_squeezed and response.finish_reason in _CUT:
            said = f"the budget left {held.reply} tokens for a reply of {held.model.label!r}, and it needed more"
            lost(ModelError(said))  # other budgets have to count the call
            raise BudgetError(said, limit="tokens")


_under_way: ContextVar[_Meter | None] = ContextVar("dspex_attempt", default=None)


def _meters() -> list[_Meter]:
    """Return the calls that this one is a part of, the outermost first."""
    found, meter = list[_Meter](), _under_way.get()
    while meter is not None:
        found.append(meter)
        meter = meter.outer
    return [meter for meter in reversed(found) if not meter.is_over]


def lost(error: BaseException) -> None:
    """Say that an attempt inside of one call has failed, and that another one may be made; see `another`."""
    for meter in _meters():
        meter.fail(error)


async def another(request: Request, model: LanguageModel | str) -> None:
    """Set aside what a further attempt of `model` may use, before it is sent; after `lost`.

    Raises:
        BudgetError: it would pass a limit.
    """
    for meter in _meters():
        if meter.held is None:
            await meter.begin(request, identify(model))


async def ask_within(
    budget: Budget | None,
    model: LanguageModel,
    request: Request,
    *,
    emit: Emit | None = None,
    on_lost: Callable[[Amount], None] | None = None,
) -> Response:
    """Answer `request` by `model` if `budget` allows it (None: always); `on_lost` hears what failed attempts have cost.

    Raises:
        BudgetError: it does not, or its time is up before the answer.
    """
    if budget is None:
        return await ask(model, request, emit)
    outer = next((meter for meter in _meters() if meter.budget is budget and not meter.is_inside), None)
    meter = outer or _Meter(budget, model, on_lost)
    meter.is_inside = outer is not None  # what this call sets aside takes the place of what the outer one did
    await meter.begin(request, identify(model))
    token = _under_way.set(meter) if outer is None else None
    try:
        response = await _in_time(budget, model, _bounded(request, meter), emit=emit)
        meter.settle(response)
    except BaseException as error:
        meter.fail(error)
        raise
    finally:
        meter.is_inside = False
        if token is not None:
            meter.is_over = True
            _under_way.reset(token)
    return response


async def _in_time(budget: Budget, model: LanguageModel, request: Request, *, emit: Emit | None) -> Response:
    left, began = budget.left_seconds(), budget.now()
    if left is None:
        return (await ask(model, request, emit)).taking(budget.now() - began)
    try:
        async with asyncio.timeout(left) as limit:
            return (await ask(model, request, emit)).taking(budget.now() - began)
    except TimeoutError as error:
        if not limit.expired():
            raise
        lost(error)
        raise budget.time_is_up() from None


def _bounded(request: Request, meter: _Meter) -> Request:
    """Return the request with a limit of its reply, where it needs one that it does not have."""
    held = meter.held
    if held is None or held.reply is None or request.max_tokens is not None:
        return request
    if meter.reply is not None and not held.is_squeezed:
        return request
    return msgspec.structs.replace(request, max_tokens=held.reply)


def _reply_limit(model: object) -> int | None:
    """Return the limit that a model, or the one that it wraps, is known to have."""
    while not isinstance(model, ReplyLimited):
        if not isinstance(model, Wrapping):
            return None
        model = model.model
    return model.reply_limit


class Budgeted(Wrapper):
    """Wraps a model: a call that would pass the budget is not made."""

    def __init__(self, model: LanguageModel, budget: Budget) -> None:
        """Take the model, and a budget that others may share."""
        super().__init__(model)
        self.budget = budget

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`, or raise `BudgetError` before it is sent."""
        return await ask_within(self.budget, self.model, request, emit=emit)
