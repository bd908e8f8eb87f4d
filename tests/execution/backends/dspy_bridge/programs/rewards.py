"""Rewards and tools that programs of dspy and of dspex share."""


def answer_length(inputs, prediction):
    return float(len(prediction.answer))


def square(n: int) -> int:
    """Return the square of a number."""
    return n * n
