"""BuyerHistoryService: what gateways ask and tell about buyers."""

from datetime import timedelta
from typing import Any

import grpc

from order_svc.hoarding.buyers import BuyerHistories, Sighting
from seckill.v1 import hoarding_pb2 as pb
from seckill.v1.hoarding_pb2_grpc import BuyerHistoryServiceServicer
from seckill.validation import Violations

BUYER_HISTORY_SERVICE = "seckill.v1.BuyerHistoryService"
HASH_BYTES = 16
DAY_S = 86_400
WINDOW_MAX_S, WINDOW_DEFAULT_S = 400 * DAY_S, 30 * DAY_S
Context = grpc.aio.ServicerContext[Any, Any]


class BuyerHistoryService(BuyerHistoryServiceServicer):
    """The contract of protos/seckill/v1/hoarding.proto."""

    def __init__(self, histories: BuyerHistories) -> None:
        self._histories = histories

    async def BatchGetBuyerHistories(
        self, request: pb.BatchGetBuyerHistoriesRequest, _context: Context
    ) -> pb.BatchGetBuyerHistoriesResponse:
        violations = Violations()
        violations.batch("buyers", len(request.buyers))
        for index, buyer in enumerate(request.buyers):
            violations.user_id(f"buyers[{index}].user_id", buyer.user_id)
            _check_hash(violations, f"buyers[{index}].fingerprint", buyer.fingerprint)
        if request.HasField("window"):
            violations.duration("window", request.window, 1, WINDOW_MAX_S)
        violations.check()
        given = request.HasField("window")
        rows = await self._histories.count(
            [(buyer.user_id, buyer.fingerprint) for buyer in request.buyers],
            window=request.window.ToTimedelta() if given else timedelta(seconds=WINDOW_DEFAULT_S),
        )
        return pb.BatchGetBuyerHistoriesResponse(
            histories=[
                pb.BuyerHistory(
                    pending_orders=row["pending"],
                    unpaid_orders=row["unpaid"],
                    paid_orders=row["paid"],
                    fingerprint_pending_orders=row["fingerprint_pending"],
                )
                for row in rows
            ]
        )

    async def RecordSightings(
        self, request: pb.RecordSightingsRequest, _context: Context
    ) -> pb.RecordSightingsResponse:
        violations = Violations()
        violations.batch("sightings", len(request.sightings))
        for index, sighting in enumerate(request.sightings):
            violations.order_no(f"sightings[{index}].order_no", sighting.order_no)
            _check_hash(violations, f"sightings[{index}].address", sighting.address)
            _check_hash(violations, f"sightings[{index}].fingerprint", sighting.fingerprint)
        violations.check()
        recorded = await self._histories.record(
            [
                Sighting(sighting.order_no, sighting.address, sighting.fingerprint)
                for sighting in request.sightings
            ]
        )
        return pb.RecordSightingsResponse(recorded_count=recorded)


def _check_hash(violations: Violations, field: str, value: bytes) -> None:
    if len(value) not in (0, HASH_BYTES):
        violations.add(field, f"must have {HASH_BYTES} bytes or none, not {len(value)}")
