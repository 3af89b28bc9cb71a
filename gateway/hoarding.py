"""What is done against hoarding: opened together, from one channel to order_svc."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from gateway.admission import Admission
from gateway.buyer_histories import BuyerHistories
from gateway.front.call import Call
from gateway.hoarding_settings import HoardingSettings
from gateway.keyed_hashes import KeyedHashes
from gateway.rules_feed import RulesFeed
from gateway.sightings import Sightings
from gateway.unpaid_cap import UnpaidCap
from seckill.runtime.channel import open_channel
from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.process import Process
from seckill.v1 import hoarding_pb2_grpc

BUYER_HISTORIES = "seckill.v1.BuyerHistoryService"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Hoarding:
    """What is done against hoarding.

    Attributes:
        histories: what buyers did with their orders.
        cap: on orders that await payment.
        on_reserved: notes from where an order was reserved; None if nothing is kept of that.
    """

    histories: BuyerHistories
    cap: UnpaidCap
    on_reserved: Callable[[Call, str], None] | None


async def open_hoarding(
    settings: HoardingSettings,
    process: Process,
    *,
    order_target: str,
    mesh: MeshTls | None,
    admission: Admission,
    rules: RulesFeed,
) -> Hoarding:
    """Open the channel; sightings are sent from now on, if there is a key for them."""
    # A channel of its own: its balancing asks for the health of this service.
    channel: grpc.aio.Channel = await process.enter(
        open_channel(
            order_target,
            service=BUYER_HISTORIES,
            mesh=mesh,
            reads=["BatchGetBuyerHistories", "RecordSightings"],
        )
    )
    stub = hoarding_pb2_grpc.BuyerHistoryServiceStub(channel)
    histories = BuyerHistories(
        stub,
        window_s=settings.gateway_history_days * DAY_S,
        kept_s=settings.gateway_history_kept_s,
        timeout_s=settings.gateway_history_timeout_s,
    )
    hashes = KeyedHashes(settings.sightings_key())
    on_reserved = None
    if hashes.on:
        sightings = Sightings(stub)
        await process.spawn("sightings", sightings.run())
        on_reserved = _noting(sightings, hashes, admission)
    cap = UnpaidCap(histories, hashes, orders_max=lambda: rules.rules.unpaid_orders_max)
    return Hoarding(histories, cap, on_reserved)


def _noting(
    sightings: Sightings, hashes: KeyedHashes, admission: Admission
) -> Callable[[Call, str], None]:
    """Return what notes from where a call that was answered RESERVED came."""

    def note(call: Call, order_no: str) -> None:
        digest = admission.fingerprint(call.authorization, now_s=time.time())
        sightings.note(
            order_no,
            address=hashes.address(admission.address(call)),
            fingerprint=hashes.fingerprint(digest),
        )

    return note


def admission_multiple(settings: HoardingSettings, rules: RulesFeed) -> Callable[[str], float]:
    """Return what tells the admission multiple of a sku: its sale's policy, else the setting."""
    return lambda sku: (
        rules.rules.policy(sku).admission_multiple or settings.gateway_admission_multiple
    )
