"""A crowd that comes evenly, played by processes of its own: one Python client is not enough."""

import asyncio
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from seckill.client.transport import authorization, failure_of, new_request_id
from seckill.v1 import gateway_pb2, inventory_pb2
from seckill_cli import mesh
from seckill_cli.load import running
from seckill_cli.load.link import Link, LinkError
from seckill_cli.mesh import Security
from seckill_cli.preflight.identities import Identities
from seckill_cli.preflight.replicas import Replica

WORKERS_MAX = 4
# Buyers a second that one worker can play, about.
WORKER_RATE_PER_S = 1_000.0
CONNECTIONS = 4
IN_FLIGHT_MAX = 2_000
CALL_TIMEOUT_S = 5.0
# A worker imports and makes its identities within this, then all start together.
HEAD_START_S = 1.5
MINT_S = 0.0002
RESERVED_NAME = "RESERVED"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one worker plays.

    Attributes:
        gateways: whom to call, in turn.
        tls: files of authorities, certificate and key, "" for none; None is plaintext.
        first: number of the first buyer among the identities.
        arrivals_s: seconds after the start, of each buyer.
        start_s: monotonic time of the start; all processes of a machine share that clock.
    """

    gateways: Sequence[Replica]
    tls: tuple[str, str, str] | None
    identities: Identities
    sku: str
    first: int
    arrivals_s: Sequence[float]
    start_s: float


@dataclass(kw_only=True)
class Played:
    """What came of a crowd.

    Attributes:
        latencies_s: of each buyer who was answered: token and purchase together.
        outcomes: of their attempts, by name.
        failures: of the others, by reason.
        late_s: by how much buyers came later than planned, at the 99th percentile: the
            generator's own delay.
        busy: share of its time that the busiest worker had the CPU.
        seconds: from the start to the last answer.
        cpu_s: that the workers used.
    """

    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    late_s: float = 0.0
    busy: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def add(self, other: "Played") -> None:
        """Count what another worker has seen, too."""
        self.latencies_s += other.latencies_s
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.late_s = max(self.late_s, other.late_s)
        self.busy = max(self.busy, other.busy)
        self.seconds = max(self.seconds, other.seconds)
        self.cpu_s += other.cpu_s

    @property
    def attempts(self) -> int:
        """Buyers who came."""
        return len(self.latencies_s) + self.failures.total()

    def latency_ms(self, share: float) -> float:
        """Return a quantile of the latencies; 0 if nobody was answered."""
        return 1000 * quantile(self.latencies_s, share)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def link_to(gateway: Replica, tls: tuple[str, str, str] | None) -> Link:
    """Return a link to a gateway."""
    security = None if tls is None else _security(tls).context()
    return Link(gateway.address, security=security, server_name=gateway.host)


def files_of(security: Security) -> tuple[str, str, str] | None:
    """Return what another process needs for the same TLS; None is plaintext."""
    if security.credentials is None:
        return None
    ca, cert, key = (str(path or "") for path in (security.ca, security.cert, security.key))
    return ca, cert, key


def _security(tls: tuple[str, str, str]) -> Security:
    ca, cert, key = (Path(path) if path else None for path in tls)
    return Security.of(tls=True, ca=ca, cert=cert, key=key)


def token_request(sku: str) -> bytes:
    """Return a serialized request for a purchase token."""
    return gateway_pb2.IssuePurchaseTokenRequest(sku=sku).SerializeToString()


def purchase_request(sku: str, token_answer: bytes) -> bytes:
    """Return a serialized purchase of one unit, with the token of an answer."""
    token = gateway_pb2.IssuePurchaseTokenResponse.FromString(token_answer).purchase_token
    return gateway_pb2.PurchaseRequest(
        sku=sku, quantity=1, request_id=new_request_id(), purchase_token=token
    ).SerializeToString()


def outcome_of(answer: bytes) -> str:
    """Return the outcome of a purchase, by name."""
    outcome = gateway_pb2.PurchaseResponse.FromString(answer).outcome
    return inventory_pb2.PurchaseOutcome.Name(outcome).removeprefix("PURCHASE_OUTCOME_")


def reason_of(error: LinkError) -> str:
    """Return why a call failed, with the bucket that refused it."""
    failure = failure_of(error)
    bucket = failure.metadata.get("bucket", "")
    reason = failure.reason or failure.code.name
    return f"{reason} ({bucket})" if bucket else reason


class _Worker:
    def __init__(self, part: Part) -> None:
        self._part = part
        self._links = [
            link_to(part.gateways[number % len(part.gateways)], part.tls)
            for number in range(max(CONNECTIONS, len(part.gateways)))
        ]
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._token_request = token_request(part.sku)
        self._late_s: list[float] = []
        self.played = Played()

    async def play(self) -> Played:
        part = self._part
        tokens = part.identities.take(part.first, len(part.arrivals_s), part.sku)
        metadata = [(authorization(token),) for token in tokens]
        await asyncio.sleep(max(0.0, part.start_s - time.monotonic()))
        start_s, cpu_s = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as crowd:
            for number, arrival_s in enumerate(part.arrivals_s):
                due_s = part.start_s + arrival_s
                if (wait_s := due_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                await self._slots.acquire()
                self._late_s.append(time.monotonic() - due_s)
                crowd.create_task(self._visit(number, metadata[number]))
        played = self.played
        played.seconds = time.monotonic() - start_s
        played.cpu_s = time.process_time() - cpu_s
        played.busy = played.cpu_s / max(played.seconds, 1e-3)
        played.late_s = quantile(self._late_s, 0.99)
        for link in self._links:
            link.close()
        return played

    async def _visit(self, number: int, metadata: tuple[tuple[str, str]]) -> None:
        link = self._links[number % len(self._links)]
        start_s = time.monotonic()
        try:
            token = await link.call(
                "IssuePurchaseToken", self._token_request, metadata, CALL_TIMEOUT_S
            )
            request = purchase_request(self._part.sku, token)
            answer = await link.call("Purchase", request, metadata, CALL_TIMEOUT_S)
        except LinkError as error:
            self.played.failures[reason_of(error)] += 1
        else:
            self.played.latencies_s.append(time.monotonic() - start_s)
            self.played.outcomes[outcome_of(answer)] += 1
        finally:
            self._slots.release()


def _play(part: Part) -> Played:
    return running.run(_Worker(part).play())


async def come(
    gateways: Sequence[Replica], identities: Identities, sku: str, *, buyers: int, seconds: float
) -> Played:
    """Let buyers come evenly, each for a token and one unit; return what came of it."""
    most = max(1, min(WORKERS_MAX, os.cpu_count() or 1))
    workers = max(1, min(most, round(buyers / seconds / WORKER_RATE_PER_S)))
    gap_s = seconds / buyers
    head_s = HEAD_START_S + buyers / workers * MINT_S
    start_s = time.monotonic() + head_s
    tls = files_of(mesh.security_of(gateways[0].address))
    parts, first = [], 0
    for worker in range(workers):
        arrivals_s = [number * gap_s for number in range(worker, buyers, workers)]
        parts.append(
            Part(
                gateways=gateways,
                tls=tls,
                identities=identities,
                sku=sku,
                first=first,
                arrivals_s=arrivals_s,
                start_s=start_s,
            )
        )
        first += len(arrivals_s)
    loop = asyncio.get_running_loop()
    together = Played()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for played in await asyncio.gather(
            *(loop.run_in_executor(pool, _play, part) for part in parts)
        ):
            together.add(played)
    return together
