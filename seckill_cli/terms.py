"""What people write for money, time and length, as the contracts want it."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import sale_pb2
from seckill.validation import MINOR_UNITS_MAX
from seckill_cli.currencies import EXPONENTS

_LENGTH = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,4})?")
# Protobuf's timestamps end with the year 9999; sales do not start before 1970.
_MOMENT_MIN = datetime(1970, 1, 1, tzinfo=UTC)
# No length that a command takes is longer, in seconds: 100 years.
LENGTH_MAX_S = 100 * 365.25 * 86400


def _wrong(option: str, problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint=f"'{option}'")


def length_s(text: str, option: str) -> float:
    """Return the seconds of "90s", "15m", "2h", "500ms"; raise BadParameter naming the option."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise _wrong(option, f"{text!a} is not a length of time like 90s, 15m, 2h or 1d")
    seconds = float(found[1]) * _UNIT_S[found[2]]
    if seconds > LENGTH_MAX_S:
        raise _wrong(option, f"{text!a} is longer than 100 years")
    return seconds


def money(text: str, currency: str, option: str) -> sale_pb2.Money:
    """Return the minor units of "9.90" in the currency; raise BadParameter naming the option.

    An unknown currency is `--currency`'s error.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise _wrong("--currency", f"{currency!a} is not the ISO 4217 code of a currency in use")
    if _AMOUNT.fullmatch(text) is None:
        raise _wrong(option, f"{text!a} is not an amount of money like 9.90")
    minor = Decimal(text).scaleb(exponent)
    if minor != minor.to_integral_value():
        raise _wrong(
            option, f"{text!a} has more than {exponent} decimal places, those of {currency}"
        )
    if minor > MINOR_UNITS_MAX:
        raise _wrong(option, f"{text!a} is more than any price")
    return sale_pb2.Money(currency=currency, minor_units=int(minor))


def show_money(amount: sale_pb2.Money) -> str:
    """Return "9.90 CNY"; without a known currency, the minor units."""
    exponent = EXPONENTS.get(amount.currency)
    if exponent is None:
        return f"{amount.minor_units} minor units of {amount.currency or 'no currency'}"
    return f"{Decimal(amount.minor_units).scaleb(-exponent):f} {amount.currency}"


def moment(text: str, option: str) -> Timestamp:
    """Return the time of ISO 8601, "now", or "+10m" from now.

    Without an offset it is this machine's local time.

    Raises:
        BadParameter: it is no time, or no single one: the clocks skip or repeat it; names `option`.
    """
    if text == "now" or text.startswith("+"):
        later_s = length_s(text[1:], option) if text != "now" else 0.0
        when = datetime.now(UTC) + timedelta(seconds=later_s)
    else:
        when = _read_moment(text, option)
    if when < _MOMENT_MIN:
        raise _wrong(option, f"{text!a} is before 1970")
    stamp = Timestamp()
    stamp.FromDatetime(when)
    return stamp


def _read_moment(text: str, option: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(
            option, f"{text!a} is not a time like 2026-11-11T00:00:00+08:00, now, or +10m"
        ) from None
    try:
        if when.tzinfo is not None:
            return when.astimezone(UTC)
        first, second = when.replace(fold=0).astimezone(UTC), when.replace(fold=1).astimezone(UTC)
        exists = first.astimezone().replace(tzinfo=None) == when
    except (OverflowError, ValueError, OSError):
        raise _wrong(option, f"{text!a} is not between the years 1970 and 9999") from None
    if first != second:
        what = "is twice" if exists else "does not exist"
        offsets = " or ".join(f"{each.astimezone():%z}" for each in (first, second))
        raise _wrong(
            option,
            f"{text!a} {what} in local time, as the clocks change: add an offset ({offsets})",
        )
    return first


def show_moment(stamp: Timestamp) -> str:
    """Return the local time to the second, e.g. "2026-11-11 00:00:00+08:00"; "-" if it is unset."""
    if stamp.seconds == 0:
        return "-"
    try:
        when = stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        return f"{stamp.seconds} s after 1970"
    # The last hours of the year 9999 stay in UTC.
    with suppress(ValueError, OverflowError, OSError):
        when = when.astimezone()
    return when.isoformat(sep=" ", timespec="seconds")


def duration(text: str, option: str) -> Duration:
    """Return a length of time as a protobuf Duration; raise BadParameter naming the option."""
    span = Duration()
    span.FromNanoseconds(round(length_s(text, option) * 1e9))
    return span
