import contextlib

from hypothesis import given
from hypothesis import strategies as st

from dspex.execution.backends import MockBackend, NativeBackend
from dspex.execution.context import RunContext
from dspex.language.signatures import Signature
from dspex.language.signatures.examples import example
from dspex.testing.backends import BackendContract, predicting
from tests.support.properties import examples


class TestNative(BackendContract):
    def make(self):
        return contextlib.nullcontext(NativeBackend())


class TestMock(BackendContract):
    def make(self):
        return contextlib.nullcontext(MockBackend())


_BOUNDS = st.integers(-50, 50)


@examples()
@given(
    kind=st.sampled_from(["int", "float"]),
    low=st.none() | st.tuples(st.sampled_from(["ge", "gt"]), _BOUNDS),
    width=st.none() | st.tuples(st.sampled_from(["le", "lt"]), st.integers(2, 30)),
    step=st.none() | st.integers(1, 2),
    number=st.integers(0, 1 << 32),
)
def test_made_up_numbers_keep_to_their_bounds(kind, low, width, step, number):
    rules = {} if low is None else {low[0]: low[1]}
    rules |= {} if width is None else {width[0]: width[1] + (0 if low is None else low[1])}
    rules |= {} if step is None else {"multiple_of": step}
    if low is not None and width is not None and step == 2:
        rules[width[0]] += 2  # so that the range contains a multiple
    bounds = f"[{', '.join(f'{name}={value}' for name, value in rules.items())}]" if rules else ""
    signature = Signature(f"q -> a: {kind}{bounds}")
    generated = example(signature.output_fields["a"].type, "a", number)
    assert signature.validate_outputs({"a": generated}) == {"a": generated}


async def test_a_mock_remembers_the_last_calls_only():
    backend = MockBackend([{"answer": n} for n in range(1500)])
    handle = await backend.create_program(predicting())
    for n in range(1500):
        assert (
            await backend.execute_program(handle, {"question": f"{n}"}, RunContext())
        ).answer == n
    assert [len(backend.calls), backend.calls[0][1]] == [1000, {"question": "500"}]
