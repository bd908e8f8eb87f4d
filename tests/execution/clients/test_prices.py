from dspex.execution.clients.prices import price_of


def test_a_dated_name_has_the_price_of_its_family():
    assert price_of("openai/gpt-4o-mini-2024-07-18") == price_of("openai/gpt-4o-mini")


def test_an_unknown_model_has_no_price():
    assert price_of("nobody/nothing") is None
