"""Constraints of the contracts, checked by hand: each broken one is named, all at once.

protovalidate works on another protobuf runtime than grpcio's stubs (see docs/adr/0003).
"""

import base64
import binascii
import re

from seckill.errors import InvalidField
from seckill.order_no import is_order_no
from seckill.v1 import sale_pb2

SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PRINTABLE = re.compile(r"[!-~]+")
CURRENCY = re.compile(r"[A-Z]{3}")

USER_ID_MAX = 128
REQUEST_ID_MAX = 64
TITLE_MAX = 200
UNITS_MAX = 10_000_000
PURCHASE_LIMIT_MAX = 1_000
PAYMENT_WINDOW_MAX_S = 7 * 24 * 3600
PAYMENT_WINDOW_DEFAULT_S = 15 * 60
PAGE_SIZE_MAX = 1_000
PAGE_SIZE_DEFAULT = 100
BATCH_MAX = 1_024


class Violations:
    """Collects what is wrong with a request; `check` raises InvalidField with all of it."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, problem: str) -> None:
        self._found.append((field, problem))

    def check(self) -> None:
        """Raises InvalidField where anything was added."""
        if self._found:
            raise InvalidField(self._found)

    def sku(self, field: str, value: str) -> None:
        if SKU.fullmatch(value) is None:
            self.add(field, "must be 1 to 64 of [A-Za-z0-9._-], beginning with a letter or a digit")

    def printable(self, field: str, value: str, length_max: int) -> None:
        """1 to `length_max` printable ASCII characters without spaces."""
        if len(value) > length_max or PRINTABLE.fullmatch(value) is None:
            self.add(field, f"must be 1 to {length_max} printable ASCII characters without spaces")

    def user_id(self, field: str, value: str) -> None:
        self.printable(field, value, USER_ID_MAX)

    def request_id(self, field: str, value: str) -> None:
        self.printable(field, value, REQUEST_ID_MAX)

    def order_no(self, field: str, value: str) -> None:
        if not is_order_no(value):
            self.add(field, "must be an order number: 26 characters of Crockford's base 32")

    def between(self, field: str, value: int, least: int, most: int) -> None:
        if not least <= value <= most:
            self.add(field, f"must be {least} to {most}, not {value}")

    def batch(self, field: str, length: int) -> None:
        self.between(field, length, 1, BATCH_MAX)

    def money(self, field: str, money: sale_pb2.Money) -> None:
        if CURRENCY.fullmatch(money.currency) is None:
            self.add(f"{field}.currency", "must be an ISO 4217 code of three capital letters")
        if money.minor_units < 0:
            self.add(f"{field}.minor_units", "must not be negative")


def check_terms(terms: sale_pb2.SaleTerms, field: str = "terms") -> None:
    """Raises InvalidField naming each constraint of SaleTerms that is broken."""
    violations = Violations()
    violations.sku(f"{field}.sku", terms.sku)
    if len(terms.title) > TITLE_MAX:
        violations.add(f"{field}.title", f"must have at most {TITLE_MAX} characters")
    violations.between(f"{field}.total_units", terms.total_units, 1, UNITS_MAX)
    violations.money(f"{field}.unit_price", terms.unit_price)
    violations.between(f"{field}.purchase_limit", terms.purchase_limit, 0, PURCHASE_LIMIT_MAX)
    if not terms.HasField("end_time"):
        violations.add(f"{field}.end_time", "is required")
    elif terms.end_time.ToNanoseconds() <= terms.start_time.ToNanoseconds():
        violations.add(f"{field}.end_time", "must be after start_time")
    if terms.HasField("payment_window"):
        seconds = terms.payment_window.ToNanoseconds() / 1e9
        if not 1 <= seconds <= PAYMENT_WINDOW_MAX_S:
            violations.add(f"{field}.payment_window", f"must be 1 s to {PAYMENT_WINDOW_MAX_S} s")
    violations.check()


def page_size(value: int, field: str = "page_size") -> int:
    """The size to serve: the default for 0; raises InvalidField outside 0 to 1,000."""
    violations = Violations()
    violations.between(field, value, 0, PAGE_SIZE_MAX)
    violations.check()
    return value or PAGE_SIZE_DEFAULT


def encode_page_token(last_key: str) -> str:
    """An opaque token that continues after `last_key`."""
    return base64.urlsafe_b64encode(b"1" + last_key.encode()).decode()


def decode_page_token(token: str, pattern: re.Pattern[str], field: str = "page_token") -> str:
    """The key to continue after, "" for an empty token.

    Raises InvalidField where the token was not made by `encode_page_token` of a key that matches.
    """
    if not token:
        return ""
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    if not decoded.startswith("1") or pattern.fullmatch(decoded[1:]) is None:
        raise InvalidField([(field, "is not a token of a previous page")])
    return decoded[1:]
