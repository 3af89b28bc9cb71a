"""Constraints of the contracts, checked by hand: each broken one is named, all at once.

protovalidate works on another protobuf runtime than grpcio's stubs (see docs/adr/0003).
"""

import base64
import binascii
import re

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from seckill import shadow
from seckill.buckets import BUCKETS_MAX
from seckill.errors import InvalidField
from seckill.order_no import is_order_no
from seckill.v1 import sale_pb2

SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PRINTABLE = re.compile(r"[!-~]+")
CURRENCY = re.compile(r"[A-Z]{3}")
# C0 (NUL, newline, escape, …), DEL, C1, and Unicode's line and paragraph separators. Postgres
# refuses NUL; the others break log lines and terminals.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

USER_ID_MAX = 128
REQUEST_ID_MAX = 64
TITLE_MAX = 200
UNITS_MAX = 10_000_000
PURCHASE_LIMIT_MAX = 1_000
# A price times the largest quantity must fit into 64 bits.
MINOR_UNITS_MAX = 10**15
# 9999-12-31T23:59:59Z, the last second of a protobuf Timestamp and of a Python datetime.
TIME_MAX_S = 253_402_300_799
NANOS_MAX = 999_999_999
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
        """Raise InvalidField if anything was added."""
        if self._found:
            raise InvalidField(self._found)

    def sku(self, field: str, value: str) -> None:
        if SKU.fullmatch(value) is None:
            self.add(
                field, "must be 1 to 64 characters of [A-Za-z0-9._-], first a letter or a digit"
            )

    def printable(self, field: str, value: str, length_max: int) -> None:
        """Require 1 to `length_max` printable ASCII characters without spaces."""
        if len(value) > length_max or PRINTABLE.fullmatch(value) is None:
            self.add(field, f"must be 1 to {length_max} printable ASCII characters without spaces")

    def text(self, field: str, value: str, length_max: int) -> None:
        """Require at most `length_max` characters of any script, none a control character."""
        if len(value) > length_max:
            self.add(field, f"must have at most {length_max} characters, not {len(value)}")
        elif CONTROL.search(value):
            self.add(field, "must not contain control characters")

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

    def timestamp(self, field: str, value: Timestamp) -> bool:
        """Require a time from 1970 to 9999; return whether it is one, so may be converted."""
        valid = 0 <= value.seconds <= TIME_MAX_S and 0 <= value.nanos <= NANOS_MAX
        if not valid:
            self.add(
                field,
                "must be a time from 1970 to 9999, in seconds since 1970 with nanos of 0 to"
                f" {NANOS_MAX}, not {value.seconds} s and {value.nanos} ns",
            )
        return valid

    def duration(self, field: str, value: Duration, least_s: float, most_s: float) -> None:
        """Require a duration of `least_s` to `most_s` seconds, neither negative."""
        seconds = value.seconds + value.nanos / 1e9
        if not 0 <= value.nanos <= NANOS_MAX or not least_s <= seconds <= most_s:
            self.add(
                field,
                f"must be {least_s} to {most_s} s, not {value.seconds} s and {value.nanos} ns",
            )

    def money(self, field: str, money: sale_pb2.Money) -> None:
        if CURRENCY.fullmatch(money.currency) is None:
            self.add(f"{field}.currency", "must be an ISO 4217 code of three capital letters")
        self.between(f"{field}.minor_units", money.minor_units, 0, MINOR_UNITS_MAX)


def check_terms(terms: sale_pb2.SaleTerms, field: str = "terms") -> None:
    """Raise InvalidField naming each constraint of SaleTerms that is broken."""
    violations = Violations()
    violations.sku(f"{field}.sku", terms.sku)
    violations.text(f"{field}.title", terms.title, TITLE_MAX)
    violations.between(f"{field}.total_units", terms.total_units, 1, UNITS_MAX)
    violations.money(f"{field}.unit_price", terms.unit_price)
    violations.between(f"{field}.purchase_limit", terms.purchase_limit, 0, PURCHASE_LIMIT_MAX)
    violations.between(f"{field}.buckets", terms.buckets, 0, BUCKETS_MAX)
    _check_window(violations, terms, field)
    if terms.HasField("payment_window"):
        violations.duration(
            f"{field}.payment_window", terms.payment_window, 1, PAYMENT_WINDOW_MAX_S
        )
    if shadow.is_shadow(terms.sku):
        _check_shadow(violations, terms, field)
    violations.check()


def _check_window(violations: Violations, terms: sale_pb2.SaleTerms, field: str) -> None:
    started = violations.timestamp(f"{field}.start_time", terms.start_time)
    if not terms.HasField("end_time"):
        violations.add(f"{field}.end_time", "is required")
    elif (
        violations.timestamp(f"{field}.end_time", terms.end_time)
        and started
        and terms.end_time.ToNanoseconds() <= terms.start_time.ToNanoseconds()
    ):
        violations.add(f"{field}.end_time", "must be after start_time")


def _check_shadow(violations: Violations, terms: sale_pb2.SaleTerms, field: str) -> None:
    """Nobody may sell units under a name whose orders are removed."""
    if not shadow.is_well_formed(terms.sku):
        violations.add(f"{field}.sku", f"names a shadow sale: no other begins with {shadow.PREFIX}")
    window_s = (terms.end_time.ToNanoseconds() - terms.start_time.ToNanoseconds()) / 1e9
    if not terms.HasField("start_time") or window_s > shadow.WINDOW_MAX_S:
        most = f"{shadow.WINDOW_MAX_S:.0f} s after start_time"
        violations.add(f"{field}.end_time", f"of a shadow sale must be at most {most}")


def page_size(value: int, field: str = "page_size") -> int:
    """Return the size to serve, the default for 0; raise InvalidField outside 0 to 1,000."""
    violations = Violations()
    violations.between(field, value, 0, PAGE_SIZE_MAX)
    violations.check()
    return value or PAGE_SIZE_DEFAULT


def encode_page_token(last_key: str) -> str:
    """Return an opaque token that continues after `last_key`."""
    return base64.urlsafe_b64encode(b"1" + last_key.encode()).decode()


def decode_page_token(token: str, pattern: re.Pattern[str], field: str = "page_token") -> str:
    """Return the key to continue after, "" for an empty token.

    Raises:
        InvalidField: the token is not one of `encode_page_token`, or its key does not match.
    """
    if not token:
        return ""
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    if not decoded.startswith("1") or pattern.fullmatch(decoded[1:]) is None:
        raise InvalidField([(field, "must be the token of a previous page")])
    return decoded[1:]
