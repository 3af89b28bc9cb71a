"""How old at most an answer is when it is passed on."""

from math import ceil

from google.protobuf.duration_pb2 import Duration


def older(age: Duration, by_s: float) -> Duration:
    """Return an age that has grown by so many seconds since it was told, rounded up."""
    grown = Duration()
    grown.FromNanoseconds(age.ToNanoseconds() + ceil(by_s * 1e9))
    return grown
