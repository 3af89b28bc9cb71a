"""What one caller, and all callers together, may take of the front."""

from dataclasses import dataclass

# Frames that say nothing of a call (PING, SETTINGS, WINDOW_UPDATE) which a connection may send at
# once, each second beyond that, and for each call that it makes and each part of an answer that it
# gets: clients measure the round trip with a PING as answers come, and give back the window.
CONTROL_FRAMES_MAX = 1_000
CONTROL_FRAMES_PER_S = 20
CONTROL_FRAMES_PER_EXCHANGE = 4

# So much may wait for a socket before its caller is read no further.
WRITE_HIGH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """The gateway's settings of the same names say what each is for (gateway/settings.py)."""

    connections_max: int
    streams_max: int
    resets_per_s_max: int
    half_open_max: int
    request_timeout_s: float
    handshake_timeout_s: float
    idle_timeout_s: float
    unread_timeout_s: float
    unread_bytes_max: int
    header_bytes_max: int
    passed_streams_max: int
    passed_bytes_max: int
    age_max_s: float
    age_grace_s: float
    drain_timeout_s: float


class ControlBudget:
    """A bucket of frames that cost us something and bring nothing."""

    __slots__ = ("_left", "_since_s")

    def __init__(self) -> None:
        self._left = float(CONTROL_FRAMES_MAX)
        self._since_s = 0.0

    def take(self, frames: int, *, exchanged: int, now_s: float) -> bool:
        """Charge frames that have come since the last call.

        Args:
            frames: how many.
            exchanged: calls made and parts of answers sent in the same time.
            now_s: monotonic time.

        Returns:
            Whether there was room for them.
        """
        seconds = now_s - self._since_s
        self._since_s = now_s
        earned = seconds * CONTROL_FRAMES_PER_S + exchanged * CONTROL_FRAMES_PER_EXCHANGE
        self._left = min(CONTROL_FRAMES_MAX, self._left + earned) - frames
        return self._left >= 0
