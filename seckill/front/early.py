"""Calls that were answered while their requests are still on their way."""

from contextlib import suppress

from seckill.runtime.http2.engine import Code, Engine, EngineError


class EarlyAnswers:
    """Ends their streams: at once if asked to, or when the rest of the request does not come."""

    __slots__ = ("_answered", "_cuts")

    def __init__(self) -> None:
        # Stream → when it was answered, in that order.
        self._answered: dict[int, float] = {}
        # Those that are to be reset; an answer must be written first, or it is dropped.
        self._cuts: list[int] = []

    def note(self, stream_id: int, now_s: float) -> None:
        """A request has its answer, and is not whole."""
        self._answered[stream_id] = now_s

    def forget(self, stream_id: int) -> None:
        """The stream has ended."""
        self._answered.pop(stream_id, None)

    def cut(self, stream_id: int) -> None:
        """Have a stream reset once its answer is written."""
        self.forget(stream_id)
        self._cuts.append(stream_id)

    def late(self, before_s: float) -> list[int]:
        """Return the streams that were answered before then."""
        return [stream_id for stream_id, at_s in self._answered.items() if at_s < before_s]

    def reset(self, engine: Engine) -> bool:
        """Reset what is to be cut; returns whether there was anything."""
        cuts, self._cuts = self._cuts, []
        for stream_id in cuts:
            with suppress(EngineError):
                engine.reset_stream(stream_id, Code.NO_ERROR)
        return bool(cuts)
