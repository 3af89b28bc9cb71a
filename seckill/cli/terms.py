"""What people write for money, time and length, as the contracts want it."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import sale_pb2

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Currencies without minor units, and with three digits of them (ISO 4217); all others have two.
_EXPONENTS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "BHD": 3, "KWD": 3, "TND": 3, "JOD": 3}


def length_s(text: str) -> float:
    """Seconds of "90s", "15m", "2h", "500ms"; raises BadParameter naming the text."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a length of time like 90s, 15m, 2h or 1d")
    return float(found[1]) * _UNIT_S[found[2]]


def money(text: str, currency: str) -> sale_pb2.Money:
    """Minor units of "9.90" in the currency; raises BadParameter naming the text."""
    exponent = _EXPONENTS.get(currency, 2)
    try:
        minor = Decimal(text).scaleb(exponent)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not an amount of money like 9.90") from None
    if not minor.is_finite() or minor != minor.to_integral_value():
        raise typer.BadParameter(f"{text!r} has more than {exponent} decimal places")
    return sale_pb2.Money(currency=currency, minor_units=int(minor))


def show_money(amount: sale_pb2.Money) -> str:
    """ "9.90 CNY"."""
    exponent = _EXPONENTS.get(amount.currency, 2)
    return f"{Decimal(amount.minor_units).scaleb(-exponent):f} {amount.currency}"


def moment(text: str) -> Timestamp:
    """A time in ISO 8601, or "now", or "+10m" from now; raises BadParameter naming the text."""
    if text == "now" or text.startswith("+"):
        when = datetime.now(UTC) + timedelta(seconds=length_s(text[1:]) if text != "now" else 0)
    else:
        try:
            when = datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a time like 2026-11-11T00:00:00+08:00, now, or +10m"
            ) from None
    stamp = Timestamp()
    stamp.FromDatetime(when)
    return stamp


def show_moment(stamp: Timestamp) -> str:
    """The local time to the second, e.g. "11-11 00:00:00"; "-" where it is unset."""
    if stamp.seconds == 0:
        return "-"
    return stamp.ToDatetime(UTC).astimezone().strftime("%m-%d %H:%M:%S")


def duration(text: str) -> Duration:
    """A length of time as a protobuf Duration."""
    span = Duration()
    span.FromNanoseconds(int(length_s(text) * 1e9))
    return span
