"""Endpoints of webhooks as a setting: what is wrong is named, no secret is shown."""

import base64
import json
import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from order_svc.settings import OrderSettings
from order_svc.webhooks.endpoints import KINDS, parse_endpoints
from order_svc.webhooks.sender import parse_retry_after
from order_svc.webhooks.signature import sign

KEY = random.Random(1).randbytes(24)
SECRET = "whsec_" + base64.b64encode(KEY).decode()
GOOD: dict[str, object] = {"name": "shop", "url": "https://shop.example/hook", "secret": SECRET}


def refusal(*endpoints: dict[str, object], https_only: bool = True) -> str:
    """Why these are refused."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the caller looks at the text
        parse_endpoints(json.dumps(endpoints), https_only=https_only)
    for endpoint in endpoints:
        assert not endpoint["secret"] or str(endpoint["secret"]) not in str(refused.value)
    assert refused.value.__cause__ is None
    return str(refused.value)


def test_endpoints_are_read_from_json() -> None:
    """All events if none are named; no endpoints if the text is empty."""
    (endpoint,) = parse_endpoints(json.dumps([GOOD]), https_only=True)
    assert endpoint.events == KINDS
    assert "created" in KINDS
    assert endpoint.keys() == [KEY]
    assert SECRET not in repr(endpoint)
    assert parse_endpoints(" ", https_only=True) == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "http://shop.example/"}, "shop: url must be https"),
        ({"url": "ftp://shop.example/"}, "http(s) URL"),
        ({"url": "https://user:pass@shop.example/"}, "neither user nor fragment"),
        ({"url": "https://shop.example:port/"}, "0.url"),
        ({"name": "Shop"}, "0.name"),
        ({"secret": "whsec_short"}, "0.secret"),
        ({"secret": "whsec_" + base64.b64encode(KEY[:16]).decode()}, "24 to 64 bytes, not 16"),
        ({"secret": base64.b64encode(KEY).decode()}, "must be whsec_ and base64"),
        ({"secret": ""}, "1 to 4 secrets"),
        ({"events": ["payed"]}, "must be some of created, "),
        ({"events": []}, "0.events"),
        ({"retries": 3}, "0.retries"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], problem: str) -> None:
    """With the place, without the value."""
    assert problem in refusal(GOOD | change)


def test_lists_are_checked_as_a_whole() -> None:
    """Names are unlike, their number is bounded, the text is JSON."""
    assert "the same name" in refusal(GOOD, GOOD)
    assert "at most 16" in refusal(*[GOOD | {"name": f"shop-{n}"} for n in range(17)])
    with pytest.raises(ValueError, match="Invalid JSON"):
        parse_endpoints(f"[{SECRET}", https_only=True)


def test_several_secrets_sign_in_their_order() -> None:
    """Each is a signature of its own, separated by a space."""
    other = random.Random(2).randbytes(32)
    both = sign([other, KEY], message_id="id", timestamp_s=7, body=b"{}")
    each = [sign([key], message_id="id", timestamp_s=7, body=b"{}") for key in (other, KEY)]
    assert both == " ".join(each)


def test_signature_is_the_one_of_the_specification() -> None:
    """Its own example, from its reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(
        [key],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s=1_614_265_330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_lease_must_outlast_an_attempt() -> None:
    """Also if only the timeout was set."""
    facts = {"postgres_dsn": "x", "redis_url": "x", "kafka_bootstrap": "x:1"}
    with pytest.raises(ValidationError, match="order_webhook_lease_s"):
        OrderSettings.model_validate({**facts, "order_webhook_timeout_s": 20.0})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (format_datetime(datetime.fromtimestamp(1_060, UTC), usegmt=True), 60.0),
        (format_datetime(datetime.fromtimestamp(900, UTC), usegmt=True), 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("²", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float) -> None:
    """Whatever is neither asks for nothing."""
    assert parse_retry_after(text, now_s=1_000.0) == seconds
