"""Signed links: what the server signed is read, and nothing else."""

import base64
import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.operations.evaluations.feedback_links import LinkClaims, read_token
from dspex.operations.tenancy.vault import Vault

VAULT = Vault(lambda: b"k" * 32)
CLAIMS = LinkClaims(
    workspace="default",
    execution_id=UUID(int=1),
    link_id=UUID(int=2),
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)
TOKEN = CLAIMS.token(VAULT)
BODY, _, SIGNATURE = TOKEN.partition(".")


def test_a_token_says_what_was_signed() -> None:
    assert read_token(TOKEN, VAULT) == CLAIMS
    assert len(TOKEN) < 160
    odd = dataclasses.replace(CLAIMS, workspace="ä b/&=", link_id=UUID(int=3))
    assert read_token(odd.token(VAULT), VAULT) == odd
    assert odd.token(VAULT).replace(".", "").replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        BODY,
        f"{BODY}.",
        f".{SIGNATURE}",
        f"{TOKEN}=",
        f"{TOKEN}.{SIGNATURE}",
        f" {TOKEN}",
        f"{TOKEN}\n",
        f"{BODY}.{SIGNATURE[:-1]}",
        f"{BODY}.{SIGNATURE.swapcase()}",
        f"{BODY}\u0430.{SIGNATURE}",
        f"{BODY}.\udc80",
        "." + base64.urlsafe_b64encode(b"").decode(),
        "x" * 100_000,
    ],
)
def test_malformed_tokens_are_refused(token: str) -> None:
    assert read_token(token, VAULT) is None


@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=0x2FF))
def test_no_character_of_a_token_can_be_another(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    assert read_token(changed, VAULT) == (CLAIMS if changed == TOKEN else None)


@given(st.binary(max_size=80))
def test_a_body_that_somebody_else_wrote_is_refused(data: bytes) -> None:
    body = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert read_token(f"{body}.{SIGNATURE}", VAULT) is None


def test_the_last_bits_of_a_signature_cannot_be_chosen() -> None:
    """43 characters hold 258 bits of which 256 count: decoders accept four last characters."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    valid = [
        last for last in alphabet if read_token(f"{BODY}.{SIGNATURE[:-1]}{last}", VAULT) is not None
    ]
    assert valid == [SIGNATURE[-1]]


def test_other_keys_and_other_purposes_sign_otherwise() -> None:
    assert read_token(TOKEN, Vault(lambda: b"l" * 32)) is None
    signature = VAULT.sign(BODY.encode(), purpose=b"something else")
    text = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    assert read_token(f"{BODY}.{text}", VAULT) is None


def test_the_parts_of_two_links_do_not_mix() -> None:
    later = dataclasses.replace(CLAIMS, expires_at=datetime(2090, 1, 1, tzinfo=UTC)).token(VAULT)
    assert read_token(f"{later.partition('.')[0]}.{SIGNATURE}", VAULT) is None
