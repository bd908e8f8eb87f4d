"""`pytest` runs these tests."""

import pytest
from tickets import DOMAIN, TICKET

from dspex.errors import ConflictError


def test_resource_has_its_actions() -> None:
    names = {action.name for action in DOMAIN.actions if action.resource is TICKET}
    assert names == {"open_ticket", "close_ticket"}


def test_ticket_is_closed_once() -> None:
    assert TICKET.step("close", "open") == "closed"
    with pytest.raises(ConflictError):
        TICKET.step("close", "closed")
