"""Enforce budgets of money, tokens, calls and time before a call is made."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import msgspec

from dspex.arguments import checks_names
from dspex.errors import BudgetError, ModelError
from dspex.execution.clients.budget import Budget, Reservation, Spend
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.language_model import CUT, Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Wrapper


@runtime_checkable
class ReplyLimited(Protocol):
    """A model with a default limit on reply tokens, for requests without one."""

    reply_limit: int


@runtime_checkable
class Wrapping(Protocol):
    """A model that wraps another one."""

    model: LanguageModel


class _Meter:
    """One call under one budget, with its consecutive attempts."""

    __slots__ = ("budget", "is_inside", "is_over", "on_lost", "outer", "reply", "reservation")

    def __init__(
        self,
        budget: Budget,
        reply: int | None,
        *,
        on_lost: Callable[[Spend], None] | None,
        outer: "_Meter | None" = None,
    ) -> None:
        self.budget = budget
        self.on_lost = on_lost
        self.outer = outer
        self.reply = reply
        self.reservation: Reservation | None = None
        self.is_inside = False
        self.is_over = False

    def copy(self) -> "_Meter":
        """Return a meter without a reservation for another attempt of the same call."""
        return _Meter(self.budget, self.reply, on_lost=self.on_lost)

    async def begin(self, request: Request, model: ModelIdentity) -> None:
        """Reserve what the next attempt may use, and release the previous reservation."""
        self.release()
        self.reservation = await self.budget.admit(request, model, reply=self.reply)

    def release(self) -> None:
        """Release the reservation of an attempt that is not made."""
        reservation, self.reservation = self.reservation, None
        if reservation is not None:
            self.budget.release(reservation)

    def fail(self, error: BaseException) -> None:
        """Book the current attempt as failed."""
        if self.reservation is not None:
            reservation, self.reservation = self.reservation, None
            amount = self.budget.fail(reservation, error)
            if self.on_lost is not None and amount.calls:
                self.on_lost(amount)

    def settle(self, response: Response) -> None:
        """Book the current attempt as answered."""
        if self.reservation is None:
            return
        reservation, self.reservation = self.reservation, None
        self.budget.settle(reservation, response)
        if reservation.is_squeezed and response.finish_reason in CUT:
            model = reservation.model.label
            message = (
                f"the budget left {reservation.reply} tokens for a reply of {model!r}, and it "
                "needed more"
            )
            lost(ModelError(message))  # other budgets have to count the call
            raise BudgetError(message, limit="tokens")


_current_meter: ContextVar[_Meter | None] = ContextVar("dspex_attempt", default=None)


def _meters() -> list[_Meter]:
    """Return the meters of the calls that contain this one, outermost first."""
    meters, meter = list[_Meter](), _current_meter.get()
    while meter is not None:
        meters.append(meter)
        meter = meter.outer
    return [meter for meter in reversed(meters) if not meter.is_over]


def lost(error: BaseException) -> None:
    """Report that an attempt within the current call failed and may be repeated; see `another`."""
    for meter in _meters():
        meter.fail(error)


async def another(request: Request, model: LanguageModel | str) -> None:
    """Reserve what a further attempt may use, after `lost` and before it is sent.

    Raises:
        BudgetError: the attempt could exceed a limit.
    """
    for meter in _meters():
        if meter.reservation is None:
            await meter.begin(request, identify(model))


async def switch(request: Request, model: LanguageModel) -> None:
    """Reserve what an attempt of `model` may use, where the reservation is of another one.

    Raises:
        BudgetError: the attempt could exceed a limit.
    """
    if _current_meter.get() is None:
        return
    identity = identify(model)
    for meter in _meters():
        if meter.reservation is None or meter.reservation.model != identity:
            await meter.begin(request, identity)


class ParallelAttempt:
    """Reserves and books an attempt at the same time as the current one, of which one is used.

    Enter it in a task of its own.
    """

    def __init__(self) -> None:
        """Attempt what the current call asks for."""
        self._pairs = [(meter, meter.copy()) for meter in _meters()]

    async def start(self, request: Request, model: LanguageModel) -> None:
        """Reserve what `model` may use, for this task.

        Raises:
            BudgetError: both attempts together could exceed a limit.
        """
        outer = None
        try:
            for _, copy in self._pairs:
                copy.outer, outer = outer, copy
                await copy.begin(request, identify(model))
        except BaseException:  # it is not sent
            for _, copy in self._pairs:
                copy.release()
            raise
        _current_meter.set(outer)

    def lose(self, error: BaseException) -> None:
        """Book this attempt as failed."""
        for _, copy in self._pairs:
            copy.fail(error)

    def win(self) -> None:
        """Book the other attempt as cancelled, and continue the call with this one."""
        for meter, copy in self._pairs:
            meter.fail(asyncio.CancelledError())
            meter.reservation, copy.reservation = copy.reservation, None


async def ask_within(
    budget: Budget | None,
    model: LanguageModel,
    request: Request,
    *,
    emit: Emit | None = None,
    on_lost: Callable[[Spend], None] | None = None,
) -> Response:
    """Answer `request` by `model` within `budget` (None: unlimited).

    `on_lost` receives what each failed attempt may have cost.

    Raises:
        BudgetError: the call could exceed a limit, or time runs out before the answer.
    """
    if budget is None:
        return await ask(model, request, emit)
    outer = next(
        (meter for meter in _meters() if meter.budget is budget and not meter.is_inside), None
    )
    meter = outer or _Meter(
        budget, _reply_limit(model), on_lost=on_lost, outer=_current_meter.get()
    )
    meter.is_inside = outer is not None  # the inner reservation replaces the outer one
    await meter.begin(request, identify(model))
    token = _current_meter.set(meter) if outer is None else None
    try:
        response = await _ask_in_time(budget, model, _limit_reply(request, meter), emit=emit)
        meter.settle(response)
    except BaseException as error:
        meter.fail(error)
        raise
    finally:
        meter.is_inside = False
        if token is not None:
            meter.is_over = True
            _current_meter.reset(token)
    return response


async def _ask_in_time(
    budget: Budget, model: LanguageModel, request: Request, *, emit: Emit | None
) -> Response:
    remaining, start = budget.left_seconds(), budget.now()
    if remaining is None:
        return (await ask(model, request, emit)).with_seconds(budget.now() - start)
    try:
        async with asyncio.timeout(remaining) as limit:
            return (await ask(model, request, emit)).with_seconds(budget.now() - start)
    except TimeoutError as error:
        if not limit.expired():
            raise
        lost(error)
        raise budget.time_is_up() from None


def _limit_reply(request: Request, meter: _Meter) -> Request:
    """Add a reply limit to the request if the budget requires one."""
    reservation = meter.reservation
    if reservation is None or reservation.reply is None or request.max_tokens is not None:
        return request
    if meter.reply is not None and not reservation.is_squeezed:
        return request
    return msgspec.structs.replace(request, max_tokens=reservation.reply)


def _reply_limit(model: object) -> int | None:
    """Return the default reply limit of a model or the model that it wraps, None if unknown."""
    while not isinstance(model, ReplyLimited):
        if not isinstance(model, Wrapping):
            return None
        model = model.model
    return model.reply_limit


@checks_names
class Budgeted(Wrapper):
    """Wraps a model; does not make calls that could exceed the budget."""

    def __init__(self, model: LanguageModel, budget: Budget) -> None:
        """Take the model, and a budget, which may be shared."""
        super().__init__(model)
        self.budget = budget

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`, or raise `BudgetError` before it is sent."""
        return await ask_within(self.budget, self.model, request, emit=emit)
