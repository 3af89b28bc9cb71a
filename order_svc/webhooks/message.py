"""An order event as the body of a webhook: CloudEvents in structured mode."""

import json
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict

from order_svc.db.database import Row
from order_svc.events.messages import attributes_of, event_of

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True)
class Webhook:
    """The content of a request.

    Attributes:
        message_id: the event's ce_id, the same on every repetition and on Kafka.
        body: the CloudEvent as JSON.
    """

    message_id: str
    body: bytes


def webhook_of(row: Row) -> Webhook:
    """Return the webhook of a row of claim_webhooks.sql."""
    attributes = attributes_of(row)
    event = {
        **attributes,
        "datacontenttype": "application/json",
        # Protobuf's own JSON: camelCase, int64 as text, enums by name, unset fields left out.
        "data": MessageToDict(event_of(row)),
    }
    return Webhook(attributes["id"], json.dumps(event, separators=(",", ":")).encode())
