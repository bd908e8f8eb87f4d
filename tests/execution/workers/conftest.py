"""Tests that count processes and descriptors, and collect garbage before each count."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _frozen_objects(request: pytest.FixtureRequest) -> None:
    """Leave what lives already out of these collections, of which there are hundreds."""
    if hasattr(request.module, "open_resources"):
        gc.collect()
        gc.freeze()
