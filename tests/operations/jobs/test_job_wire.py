"""A worker that was started before an update talks to processes that were started after it."""

from dspex.operations.jobs.job_wire import Sign, decode_sign, encode

LINE = b'{"has_taken":true,"got_on":true,"outcome":"completed"}\n'


def test_a_sign_has_the_names_of_the_version_before() -> None:
    sign = Sign(has_taken=True, has_progress=True, outcome="completed")
    assert encode(sign) == LINE
    assert decode_sign(LINE) == sign
