"""How many numbers the outline of a vector has; imports nothing, as numpy belongs to an extra."""


def outline_size(dimensions: int) -> int:
    """Return the number of directions of an outline; see `VectorMemory`."""
    return min(dimensions // 4, 128)
