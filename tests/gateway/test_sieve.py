"""The sieve against the library itself: whatever it leaves out, the rest must mean the same.

A client and a server of the library's exchange random calls; the sieve stands between them, is
switched at random, and gets the bytes in random pieces.
"""

import random
from dataclasses import dataclass, field

import pytest
from ngh2 import (
    Configuration,
    Connection,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    StreamClosed,
    StreamReset,
)

from gateway.front.refusals import overload_refusals
from gateway.front.sieve import EncodedRefusal, Sieve
from seckill.runtime.http2.engine import encoded_values, server_engine, with_empty_table
from tests.gateway.test_lifetime import LIMITS

REFUSED, PASSED = b"/shop.v1.Shop/Buy", b"/shop.v1.Shop/Look"
GRPC, JSON = b"application/grpc", b"application/json"
SERVED = ((b":status", b"200"), (b"served", b"yes"))
FOLLOWING = ((b"x-a", b"1"), (b"x-b", b"a longer value, that is the same in all calls"))


@dataclass
class Exchange:
    """Both ends, the sieve, and what each end has seen."""

    rng: random.Random
    refuses: bool = False
    client: Connection = field(init=False)
    sent: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    arrived: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    answered: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.client = Connection(Role.CLIENT, Configuration(peer_max_concurrent_streams=1_000))
        self.client.initiate_connection()
        self.server = server_engine(LIMITS)
        greeting = with_empty_table(self.server.data_to_send())
        self.sieve = Sieve(
            [(pattern, 0) for pattern in encoded_values(REFUSED)],
            encoded_values(GRPC),
        )
        self.refusals: tuple[EncodedRefusal, ...] = overload_refusals(0.5)
        self.client.receive_data(greeting)

    def call(self, path: bytes, size: int, content_type: bytes = GRPC) -> int:
        """Begin a call; its body follows in pieces."""
        rng = self.rng
        headers = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"shop"),
            (b"content-type", content_type),
            (b"x-id", b"%d" % rng.randrange(10**9)),
            *FOLLOWING,
        )
        stream_id = self.client.send_request(headers, end_stream=size == 0)
        body = rng.randbytes(size)
        self.sent[stream_id] = (headers[5][1], body)
        while body:
            piece = rng.randint(1, len(body))
            self.client.send_data(stream_id, body[:piece], end_stream=piece == len(body))
            body = body[piece:]
        return stream_id

    def give_up(self, stream_id: int) -> None:
        """Cancel a call."""
        self.given_up.add(stream_id)
        self.client.reset_stream(stream_id)

    def deliver(self, *, pieces: int = 1) -> None:
        """Let everything cross that can, in so many pieces at most, until nothing more does."""
        for _ in range(50):
            data = self.client.data_to_send()
            if not data and not self._answer():
                return
            cuts = sorted(self.rng.randint(0, len(data)) for _ in range(pieces - 1))
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                self.receive(data[start:end])
            self._answer()
        pytest.fail("the exchange does not come to rest")

    def receive(self, data: bytes) -> None:
        """The server's side of the wire."""
        sifted = self.sieve.sift(data, self.refusals if self.refuses else None)
        if not sifted:
            return
        self.server.receive_data(sifted)
        for event in self.server.events():
            if isinstance(event, RequestReceived):
                self.sieve.passed(event.stream_id)
                self.arrived[event.stream_id] = (dict(event.headers)[b"x-id"], b"")
                if event.end_stream:
                    self._serve(event.stream_id)
            elif isinstance(event, DataReceived):
                name, body = self.arrived[event.stream_id]
                self.arrived[event.stream_id] = (name, body + event.data)
                self.server.acknowledge_received_data(len(event.data), event.stream_id)
                if event.end_stream:
                    self._serve(event.stream_id)
            elif isinstance(event, StreamReset):
                assert event.stream_id in self.given_up

    def _serve(self, stream_id: int) -> None:
        if stream_id not in self.given_up:
            self.server.send_response(stream_id, SERVED, end_stream=True)

    def _answer(self) -> bool:
        data = self.server.data_to_send() + bytes(self.sieve.out)
        self.sieve.out.clear()
        if data:
            self.client.receive_data(data)
        for event in self.client.events():
            if isinstance(event, ResponseReceived):
                self.answered[event.stream_id] = dict(event.headers)
                if not event.end_stream:
                    pytest.fail("an answer without an end")
            elif isinstance(event, StreamClosed):
                assert event.error_code == 0 or event.stream_id in self.given_up
        return bool(data)

    def check(self) -> tuple[int, int]:
        """Every call is answered by what it was; returns how many were served and refused."""
        served = refused = 0
        for stream_id, sent in self.sent.items():
            if stream_id in self.given_up:
                continue
            answer = self.answered[stream_id]
            if b"served" in answer:
                served += 1
                assert self.arrived[stream_id] == sent
            else:
                refused += 1
                assert answer[b"grpc-status"] == b"8"
                assert stream_id not in self.arrived
        return served, refused


@pytest.mark.parametrize("seed", range(60))
def test_what_the_sieve_leaves_over_means_the_same(seed: int) -> None:
    """Calls of both kinds, with bodies of all sizes, given up or not, refused or not."""
    rng = random.Random(seed)
    exchange = Exchange(rng)
    for _ in range(40):
        exchange.refuses = rng.random() < 0.5
        opened = [
            exchange.call(
                rng.choice((REFUSED, PASSED)), rng.choice((0, 1, 200, 200, 200, 20_000, 60_000))
            )
            for _ in range(rng.randint(1, 8))
        ]
        if rng.random() < 0.3:
            # Some of it is sent before the caller gives up.
            exchange.receive(exchange.client.data_to_send())
            exchange.give_up(rng.choice(opened))
        if rng.random() < 0.3:
            exchange.client.ping(b"12345678")
        exchange.deliver(pieces=rng.randint(1, 30))
    served, refused = exchange.check()
    assert served > 0
    assert refused > 0
    # The windows of dropped bodies have been given back: a large body still gets through.
    exchange.refuses = False
    last = exchange.call(PASSED, 200_000)
    exchange.deliver()
    assert exchange.arrived[last] == exchange.sent[last]


def scripted(cut: int | None) -> tuple[tuple[int, int], int]:
    """A fixed conversation, cut at one byte; returns its outcome and its length."""
    exchange = Exchange(random.Random(7))
    exchange.call(PASSED, 3)
    exchange.deliver()
    exchange.call(REFUSED, 3)
    exchange.deliver()
    for path in (REFUSED, PASSED, REFUSED):
        exchange.call(path, 10)
    data = exchange.client.data_to_send()
    exchange.refuses = True
    if cut is None:
        exchange.receive(data)
    else:
        exchange.receive(data[:cut])
        # It stops refusing where the frame is cut, and starts again.
        exchange.refuses = cut % 2 == 0
        exchange.receive(data[cut:])
    exchange.deliver()
    return exchange.check(), len(data)


def test_frames_may_be_cut_anywhere() -> None:
    """At every byte of a conversation: each call is served or refused, and none is misread."""
    (served, refused), length = scripted(None)
    assert (served, refused) == (3, 2)
    for cut in range(length):
        (served, refused), _ = scripted(cut)
        assert served + refused == 5
        assert refused in {0, 1, 2}


def test_a_call_in_json_is_never_sieved() -> None:
    """The sieve's answers are gRPC's: the same path in JSON goes on, and is refused in JSON."""
    exchange = Exchange(random.Random(1))
    exchange.call(PASSED, 3)
    exchange.deliver()
    exchange.call(REFUSED, 3)
    exchange.deliver()
    exchange.refuses = True
    exchange.call(REFUSED, 5)
    exchange.call(REFUSED, 5, JSON)
    exchange.deliver()
    assert exchange.check() == (3, 1)


def test_a_client_that_says_nothing_of_its_table_is_never_sieved() -> None:
    """Literals that are never indexed need no table, and no word about one."""
    exchange = Exchange(random.Random(1))
    exchange.sieve.switch_off()
    exchange.refuses = True
    exchange.call(REFUSED, 5)
    exchange.deliver()
    assert exchange.check() == (1, 0)
    assert exchange.sieve.refused == []
