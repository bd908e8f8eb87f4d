import pytest

from dspex.errors import CircuitOpenError
from dspex.execution.workers.breaker import BreakerConfig, CircuitBreaker
from dspex.testing import FakeClock


@pytest.fixture
def open_breaker():
    clock = FakeClock()
    breaker = CircuitBreaker(BreakerConfig(failures=5, seconds=60, probes=3), clock)
    for _ in range(4):
        breaker.record_failure()
    breaker.record_success()
    for _ in range(4):
        breaker.record_failure()
    assert breaker.admit() is False  # a success in between resets the count
    breaker.record_failure()
    return breaker, clock


async def test_it_opens_after_failures_in_a_row_and_says_for_how_long(open_breaker):
    breaker, clock = open_breaker
    await clock.advance(59.0 - clock.monotonic_ns() / 1e9)
    with pytest.raises(CircuitOpenError, match=r"admitted in 1\.0 s") as caught:
        breaker.admit()
    assert caught.value.is_retryable
    assert caught.value.retry_after == 1.0


async def test_three_probes_pass_and_their_success_closes_it(open_breaker):
    breaker, clock = open_breaker
    await clock.advance(60.0 - clock.monotonic_ns() / 1e9)
    assert [breaker.admit() for _ in range(3)] == [True, True, True]
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    for _ in range(3):
        breaker.finish(is_probe=True)
        breaker.record_success()
    assert breaker.state == "closed"


async def test_a_failed_probe_opens_it_again(open_breaker):
    breaker, clock = open_breaker
    await clock.advance(60.0 - clock.monotonic_ns() / 1e9)
    breaker.admit()
    breaker.record_failure()
    assert breaker.state == "open"
    await clock.advance(119.0 - clock.monotonic_ns() / 1e9)
    with pytest.raises(CircuitOpenError):
        breaker.admit()


async def test_a_probe_that_ends_without_a_verdict_is_given_back(open_breaker):
    breaker, clock = open_breaker
    await clock.advance(60.0 - clock.monotonic_ns() / 1e9)
    for _ in range(9):
        breaker.finish(is_probe=breaker.admit())
    assert breaker.state == "half_open"
