"""Purchase tokens: bound to buyer, sku and time, and impossible to forge."""

import base64
import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seckill.errors import (
    PurchaseTokenExpired,
    PurchaseTokenForeign,
    PurchaseTokenInvalid,
    SeckillError,
)
from seckill.runtime.purchase_tokens import (
    CLOCK_SKEW_MS,
    PurchaseTokens,
    TokenKey,
    parse_keys,
    refuse_weak_key,
)

NOW_MS = 1_800_000_000_000
EXPIRE_MS = NOW_MS + 10_000
OLD = TokenKey("2026-10", b"o" * 32)
NEW = TokenKey("2026-11", b"n" * 80)
JWT = b"Bearer header.claims.signature"
TOKENS = PurchaseTokens([NEW, OLD])
RANDOM = hashlib.sha256(b"as random as any").digest()

users = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128)
skus = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def mint(tokens: PurchaseTokens, user: str, sku: str) -> str:
    """A token issued on JWT until EXPIRE_MS."""
    return tokens.mint(user, sku, authorization=JWT, expire_ms=EXPIRE_MS)


@given(user=users, sku=skus)
def test_a_token_serves_its_buyer_and_sku_until_it_expires(user: str, sku: str) -> None:
    """Good to the last millisecond, and not one longer."""
    token = mint(TOKENS, user, sku)
    TOKENS.check(token, user, sku, now_ms=EXPIRE_MS - 1)
    with pytest.raises(PurchaseTokenExpired):
        TOKENS.check(token, user, sku, now_ms=EXPIRE_MS)


@given(user=users, other=users, sku=skus, other_sku=skus)
def test_another_buyers_token_is_foreign(user: str, other: str, sku: str, other_sku: str) -> None:
    """Also where user id and sku run into each other."""
    token = mint(TOKENS, user, sku)
    if (other, other_sku) != (user, sku):
        with pytest.raises(PurchaseTokenForeign):
            TOKENS.check(token, other, other_sku, now_ms=NOW_MS)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_can_be_flipped(position: int, bit: int) -> None:
    """Whatever bit of a token changes, it is refused as invalid."""
    raw = bytearray(base64.urlsafe_b64decode(mint(TOKENS, "u-1", "sku") + "=="))
    raw[position % len(raw)] ^= 1 << bit
    forged = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(PurchaseTokenInvalid):
        TOKENS.check(forged, "u-1", "sku", now_ms=NOW_MS)


def test_a_token_with_longer_to_live_than_we_give_is_invalid() -> None:
    """Whoever signed it; give or take what clocks differ by. Load generators are told otherwise."""
    strict = PurchaseTokens([NEW], life_max_s=10)
    token = mint(TOKENS, "u-1", "sku")
    strict.check(token, "u-1", "sku", now_ms=EXPIRE_MS - 10_000 - CLOCK_SKEW_MS)
    with pytest.raises(PurchaseTokenInvalid):
        strict.check(token, "u-1", "sku", now_ms=EXPIRE_MS - 10_001 - CLOCK_SKEW_MS)
    TOKENS.check(token, "u-1", "sku", now_ms=0)


@pytest.mark.parametrize(
    ("key_id", "secret"),
    [
        ("development", RANDOM),
        ("k1", b"for development, on this machine"),
        ("k1", RANDOM[:31]),
        ("k1", b"s" * 32),
        ("k1", RANDOM[:16] * 2),
        ("k1", b"password" * 5 + b"pass"),
    ],
)
def test_a_weak_key_is_refused_without_being_shown(key_id: str, secret: bytes) -> None:
    """The development's, short ones, and those that repeat themselves."""
    with pytest.raises(ValueError, match=key_id) as refused:
        refuse_weak_key(TokenKey(key_id, secret))
    assert secret.decode("latin-1") not in str(refused.value)


def test_a_key_made_at_random_is_taken() -> None:
    """As bytes, and as their hexadecimal digits."""
    refuse_weak_key(TokenKey("k1", RANDOM))
    refuse_weak_key(TokenKey("k1", RANDOM.hex().encode()))


@given(token=st.text(max_size=400))
def test_garbage_is_invalid_and_nothing_worse(token: str) -> None:
    """Any text at all is refused by a SeckillError."""
    with pytest.raises(SeckillError):
        TOKENS.check(token, "u-1", "sku", now_ms=NOW_MS)


@given(length=st.integers(0, 200))
def test_a_cut_token_is_invalid(length: int) -> None:
    """No prefix of a token is a token."""
    token = mint(TOKENS, "u-1", "sku")
    if length < len(token):
        with pytest.raises(PurchaseTokenInvalid):
            TOKENS.check(token[:length], "u-1", "sku", now_ms=NOW_MS)


def test_rotation_refuses_nobody() -> None:
    """New key second, then first, then alone: tokens of the step before pass at each step."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for before, after in itertools.pairwise(steps):
        token = mint(PurchaseTokens(before), "u", "s")
        if before[0] in after:
            PurchaseTokens(after).check(token, "u", "s", now_ms=NOW_MS)
    with pytest.raises(PurchaseTokenInvalid):
        PurchaseTokens([NEW]).check(mint(PurchaseTokens([OLD]), "u", "s"), "u", "s", now_ms=NOW_MS)


@given(secret=st.binary(min_size=16, max_size=200))
def test_the_signature_is_hmac_sha_256(secret: bytes) -> None:
    """The hashes prepared beforehand give what the standard library gives."""
    token = mint(PurchaseTokens([TokenKey("k", secret)]), "u", "s")
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert raw[-16:] == hmac.digest(secret, raw[:-16], "sha256")[:16]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "key id"),
        ("nocolon", "fewer than 16"),
        ("k:***", "not base64"),
        ("k:c2hvcnQ=", "fewer than 16"),
        (",".join(["k:" + "A" * 44] * 2), "twice"),
    ],
)
def test_bad_keys_are_named_without_their_secret(text: str, problem: str) -> None:
    """What is wrong, and never the secret itself."""
    with pytest.raises(ValueError, match=problem) as caught:
        parse_keys(text)
    assert "c2hvcnQ" not in str(caught.value)
