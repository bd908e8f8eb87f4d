"""An agent that answers questions about orders with two tools."""

import dspex

ORDERS = {
    "A-17": ("pens", 4),
    "A-18": ("ink", 9),
    "B-20": ("paper", 12),
    "B-21": ("lamps", 30),
    "C-30": ("chairs", 85),
    "C-31": ("desks", 240),
}


class Question(dspex.Signature):
    """Answer the question about orders; look up what you need."""

    question: str
    euros: int = dspex.Output(desc="the price")


def find_order(item: str) -> str:
    """Return the number of the order of an item, such as "pens"."""
    for number, (name, _) in ORDERS.items():
        if name == item:
            return number
    raise LookupError(
        f"nobody ordered {item!r}; there are: {[name for name, _ in ORDERS.values()]}"
    )


def price(number: str) -> int:
    """Return the price in euros of the order with this number, such as "A-17"."""
    return ORDERS[number][1]


agent = dspex.ReAct(Question, [find_order, price], max_turns=4)
