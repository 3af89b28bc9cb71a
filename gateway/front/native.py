"""The batch front: HTTP/2 and gRPC in Rust, calls to Python in batches.

The only file that knows pygrpc_native (docs/adr: the front). A thread takes a batch out of the
front, hands it to the event loop, and takes the next one once the handlers of the first have
begun: what arrives meanwhile becomes that next batch. Every method that is not hot goes through the
front to a grpc.aio server on a Unix socket, so that callers see one port.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import structlog
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from gateway.front.batches import Batches
from gateway.front.call import Call, HotMethod, trailing_of
from seckill.errors import DependencyUnavailable, SeckillError
from seckill.listening import CannotListen
from seckill.server import Health, Register, serving
from seckill.settings import ProcessSettings
from seckill.telemetry import MethodMetrics, server_metrics

# Events taken in one go; a batch is handled in a few milliseconds.
BATCH_MAX = 512

Metadata = tuple[tuple[str, str | bytes], ...]
Event = tuple[
    int, int, int, bytes | None, bytes | str | None, tuple[Metadata, str, float | None] | None
]
log = structlog.get_logger()


class _Arrival:
    """The calls of one method that arrived together: what the metrics need to know of them."""

    __slots__ = ("begun_s", "failed", "metrics", "responded", "touched")

    def __init__(self, metrics: MethodMetrics, begun_s: float) -> None:
        self.metrics = metrics
        self.begun_s = begun_s
        self.responded = 0
        self.failed: dict[grpc.StatusCode, int] = {}
        # Whether some of its calls have ended since the metrics were last written.
        self.touched = False

    def write(self, now_s: float) -> None:
        seconds = now_s - self.begun_s
        if self.responded:
            self.metrics.batch_ended(grpc.StatusCode.OK, self.responded, seconds=seconds)
        for code, count in self.failed.items():
            self.metrics.batch_ended(code, count, seconds=seconds)
        self.responded = 0
        self.failed.clear()
        self.touched = False


class _NativeCall(Call):
    """A call of the front, named by its id."""

    __slots__ = ("_arrival", "_call_id", "_front", "_metadata")

    def __init__(
        self,
        front: "NativeFront",
        arrival: _Arrival,
        call_id: int,
        payload: bytes,
        key: bytes | str | None,
        details: tuple[Metadata, str, float | None],
    ) -> None:
        self._front = front
        self._arrival = arrival
        self._call_id = call_id
        self.payload = payload
        self._metadata, self.peer, left_s = details
        # Without the metadata the front gives the peer's name, as text, in its place.
        self.authorization = key if isinstance(key, bytes) else None
        self.deadline_s = float("inf") if left_s is None else arrival.begun_s + left_s
        self.cancelled = False

    def metadata(self, key: str) -> str | None:
        values = [str(value) for name, value in self._metadata if name == key]
        return ",".join(values) if values else None

    def respond(self, payload: bytes) -> None:
        front = self._front
        if front.calls.pop(self._call_id, None) is None:
            return
        front.native.respond(self._call_id, payload)
        arrival = self._arrival
        arrival.responded += 1
        if not arrival.touched:
            front.note(arrival)

    def fail(self, error: SeckillError) -> None:
        front = self._front
        if front.calls.pop(self._call_id, None) is None:
            return
        code: int = error.code.value[0]
        front.native.fail(self._call_id, code, str(error), trailing_of(error))
        self._count(error.code)

    def cancel(self) -> None:
        """The caller has left."""
        self.cancelled = True
        self._count(grpc.StatusCode.CANCELLED)

    def _count(self, code: grpc.StatusCode) -> None:
        arrival = self._arrival
        arrival.failed[code] = arrival.failed.get(code, 0) + 1
        if not arrival.touched:
            self._front.note(arrival)


class NativeFront:
    """Owns the native server, the thread that empties it, and the calls that are under way."""

    def __init__(
        self,
        listen: str,
        methods: Sequence[HotMethod],
        *,
        calls_max: int,
        io_threads: int,
        streams_max: int,
    ) -> None:
        """Binds `listen` at once; raises CannotListen where it cannot."""
        try:
            self.native = NativeGrpcFront(
                listen,
                [(method.path, False) for method in methods],
                io_threads=io_threads,
                client_key_metadata="authorization",
                call_details=True,
                max_concurrent_streams=streams_max,
            )
        except OSError as error:
            raise CannotListen(listen) from error
        # Calls that are not answered; the front's other objects take theirs out of it.
        self.calls: dict[int, _NativeCall] = {}
        self._methods = methods
        self._metrics = [server_metrics.method(method.path, streaming=False) for method in methods]
        self._batches = Batches(calls_max=calls_max)
        self._touched: list[_Arrival] = []
        self._loop = asyncio.get_running_loop()
        self._begun = threading.Event()
        # Set while the front drains, done when the last call has ended.
        self._drained: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._empty, name="front", daemon=True)

    @property
    def port(self) -> int:
        """The port bound."""
        return self.native.bound_port

    def start(self, fallback_path: str) -> None:
        """Serve; what is not a hot method goes to the server on the Unix socket."""
        self.native.set_fallback(fallback_path)
        self.native.start()
        self._thread.start()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new calls, and give those under way time to end."""
        self._drained = self._loop.create_future()
        if self.calls:
            await asyncio.wait((self._drained,), timeout=timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        # Both wait for threads that may at this moment wait for the loop.
        await asyncio.to_thread(self.native.close)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        self._write_metrics()

    def note(self, arrival: _Arrival) -> None:
        """Some calls of `arrival` have ended: have the metrics written in the next iteration."""
        arrival.touched = True
        self._touched.append(arrival)
        if len(self._touched) == 1:
            self._loop.call_soon(self._write_metrics)

    def _write_metrics(self) -> None:
        touched, self._touched = self._touched, []
        now_s = time.monotonic()
        for arrival in touched:
            arrival.write(now_s)
        if self._drained is not None and not self.calls and not self._drained.done():
            self._drained.set_result(None)

    def _empty(self) -> None:
        """The thread: batch after batch, until the front is closed."""
        while (events := self.native.recv_batch_details(BATCH_MAX)) is not None:
            self._begun.clear()
            try:
                self._loop.call_soon_threadsafe(self._deliver, events)
            except RuntimeError:  # the loop is closed: nobody is left to answer
                return
            self._begun.wait()

    def _deliver(self, events: Sequence[Event]) -> None:
        try:
            arrived = self._sort(events)
            for index, calls in enumerate(arrived):
                if calls:
                    self._metrics[index].batch_begun(len(calls))
            if self._drained is not None:
                self._refuse(arrived)
                return
            under_way = len(self.calls) - sum(map(len, arrived))
            for method, calls in zip(self._methods, arrived, strict=True):
                if calls:
                    self._batches.start(method, calls, under_way=under_way)
                    under_way += len(calls)
        finally:
            # Tasks begin in the order of their creation: this runs after their first steps.
            self._loop.call_soon(self._begun.set)

    def _sort(self, events: Sequence[Event]) -> list[list[_NativeCall]]:
        """The calls of each method, in order of arrival; those that were cancelled are marked."""
        begun_s = time.monotonic()
        arrived: list[list[_NativeCall]] = [[] for _ in self._methods]
        arrivals = [_Arrival(metrics, begun_s) for metrics in self._metrics]
        calls = self.calls
        for kind, call_id, index, payload, key, details in events:
            if kind == EVENT_CALL and payload is not None and details is not None:
                call = _NativeCall(self, arrivals[index], call_id, payload, key, details)
                calls[call_id] = call
                arrived[index].append(call)
            elif (gone := calls.pop(call_id, None)) is not None:
                gone.cancel()
        return arrived

    @staticmethod
    def _refuse(arrived: Sequence[Sequence[_NativeCall]]) -> None:
        stopping = DependencyUnavailable("this replica is stopping")
        for calls in arrived:
            for call in calls:
                call.fail(stopping)


@asynccontextmanager
async def native_front(
    listen: str,
    methods: Sequence[HotMethod],
    register: Register,
    *,
    settings: ProcessSettings,
    calls_max: int,
    io_threads: int,
    streams_max: int,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """Serve on `listen` until the context ends, then let calls under way finish.

    Args:
        listen: "host:port"; port 0 takes a free one.
        methods: served in batches.
        register: adds the servicers of all other methods to the server behind.
        calls_max: hot calls under way at once; those beyond it are refused.
        io_threads: threads of the native server.
        streams_max: calls under way on one connection.

    Yields:
        The port bound.
    """
    front = NativeFront(
        listen, methods, calls_max=calls_max, io_threads=io_threads, streams_max=streams_max
    )
    try:
        with tempfile.TemporaryDirectory(prefix="seckill-gateway-") as folder:
            path = str(Path(folder) / "rest.sock")
            async with serving(
                f"unix:{path}",
                register,
                settings=settings,
                health_state=health_state,
                services=services,
            ):
                front.start(path)
                yield front.port
                await front.drain(settings.drain_timeout_s)
    finally:
        await front.close()
