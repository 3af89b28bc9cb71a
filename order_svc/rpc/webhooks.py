"""Handles the RPCs about webhook deliveries and endpoints."""

import re
from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from order_svc.db.database import Row
from order_svc.orders.model import timestamp
from order_svc.rpc.notes import check_note
from order_svc.settling import SettleResult
from order_svc.webhooks.delivery_admin import DeliveryAdmin, DeliveryRecord
from order_svc.webhooks.endpoints import NAME
from seckill.v1 import events_pb2
from seckill.v1 import order_admin_pb2 as pb
from seckill.validation import (
    BATCH_MAX,
    Violations,
    decode_page_token,
    encode_page_token,
    page_size,
)

ID = re.compile(r"[0-9]{1,18}")
STATES = {
    "waiting": pb.WEBHOOK_DELIVERY_STATE_WAITING,
    "sending": pb.WEBHOOK_DELIVERY_STATE_SENDING,
    "dead": pb.WEBHOOK_DELIVERY_STATE_DEAD,
    "dropped": pb.WEBHOOK_DELIVERY_STATE_DROPPED,
}


class WebhookHandlers:
    """Lists, shows and settles deliveries; lists and resumes endpoints."""

    def __init__(self, deliveries: DeliveryAdmin) -> None:
        self._deliveries = deliveries

    async def list(
        self, request: pb.ListWebhookDeliveriesRequest
    ) -> pb.ListWebhookDeliveriesResponse:
        """Handle ListWebhookDeliveries."""
        if request.endpoint:
            _check_endpoint(request.endpoint)
        limit = page_size(request.page_size)
        records = await self._deliveries.page(
            endpoint=request.endpoint,
            only_dead=request.only_dead,
            after=int(decode_page_token(request.page_token, ID) or 0),
            # One more than asked for tells whether there is a next page.
            limit=limit + 1,
        )
        token = encode_page_token(str(records[limit - 1].id)) if len(records) > limit else ""
        return pb.ListWebhookDeliveriesResponse(
            deliveries=map(_delivery, records[:limit]), next_page_token=token
        )

    async def get(self, request: pb.GetWebhookDeliveryRequest) -> pb.GetWebhookDeliveryResponse:
        """Handle GetWebhookDelivery."""
        record = await self._deliveries.get(request.id)
        return pb.GetWebhookDeliveryResponse(
            delivery=_delivery(record), event_json=await self._deliveries.event(record)
        )

    async def redrive(
        self, request: pb.RedriveWebhookDeliveriesRequest
    ) -> pb.RedriveWebhookDeliveriesResponse:
        """Handle RedriveWebhookDeliveries."""
        _check_ids(request.ids)
        result = await self._deliveries.redrive(request.ids)
        return pb.RedriveWebhookDeliveriesResponse(
            redriven_count=result.settled, refused=_refused(result)
        )

    async def drop(
        self, request: pb.DropWebhookDeliveriesRequest
    ) -> pb.DropWebhookDeliveriesResponse:
        """Handle DropWebhookDeliveries."""
        check_note(request.note)
        _check_ids(request.ids)
        result = await self._deliveries.drop(request.ids, note=request.note)
        return pb.DropWebhookDeliveriesResponse(
            dropped_count=result.settled, refused=_refused(result)
        )

    async def endpoints(self) -> pb.ListWebhookEndpointsResponse:
        """Handle ListWebhookEndpoints."""
        rows = await self._deliveries.endpoints()
        return pb.ListWebhookEndpointsResponse(endpoints=map(_endpoint, rows))

    async def resume(
        self, request: pb.ResumeWebhookEndpointRequest
    ) -> pb.ResumeWebhookEndpointResponse:
        """Handle ResumeWebhookEndpoint."""
        _check_endpoint(request.endpoint)
        resumed = await self._deliveries.resume(request.endpoint)
        return pb.ResumeWebhookEndpointResponse(resumed=resumed)


def _check_ids(ids: Sequence[int]) -> None:
    violations = Violations()
    violations.between("ids", len(ids), 1, BATCH_MAX)
    violations.check()


def _check_endpoint(name: str) -> None:
    violations = Violations()
    if re.fullmatch(NAME, name) is None:
        violations.add("endpoint", "must be 1 to 40 of [a-z0-9-], not starting with a hyphen")
    violations.check()


def _refused(result: SettleResult[int]) -> list[pb.RefusedWebhookDelivery]:
    return [
        pb.RefusedWebhookDelivery(id=delivery_id, reason=reason)
        for delivery_id, reason in sorted(result.refused.items())
    ]


def _event_type(kind: str) -> events_pb2.OrderEventType.ValueType:
    return events_pb2.OrderEventType.Value(f"ORDER_EVENT_TYPE_{kind.upper()}")


def _delivery(record: DeliveryRecord) -> pb.WebhookDelivery:
    row, state = record.row, record.state
    return pb.WebhookDelivery(
        id=record.id,
        endpoint=row["endpoint"],
        event_type=_event_type(row["kind"]),
        event_time=timestamp(row["at"]),
        order_no=row["order_no"],
        state=STATES[state],
        attempts=row["attempts"],
        attempt_time=timestamp(row["attempted_at"]),
        answer=row["answer"] or 0,
        error=row["error"] or "",
        due_time=timestamp(row["due_at"]) if state == "waiting" else None,
        dead_time=timestamp(row["dead_at"]),
        drop_time=timestamp(row["dropped_at"]),
        drop_note=row["dropped_note"] or "",
    )


def _endpoint(row: Row) -> pb.WebhookEndpoint:
    oldest_age = None
    if row["waiting"]:
        oldest_age = Duration()
        oldest_age.FromTimedelta(timedelta(seconds=row["age_s"]))
    return pb.WebhookEndpoint(
        name=row["name"],
        configured=row["named"],
        gone_time=timestamp(row["gone_at"]),
        event_types=map(_event_type, row["kinds"] or ()),
        waiting_count=row["waiting"],
        oldest_age=oldest_age,
        dead_count=row["dead"],
    )
