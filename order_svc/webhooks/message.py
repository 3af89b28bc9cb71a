"""An order event as the body of a webhook: CloudEvents in structured mode."""

import json
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict

from order_svc.database import Row
from order_svc.event_messages import attributes_of, event_of

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True)
class Webhook:
    """What is sent.

    Attributes:
        message_id: the event's ce_id, the same on every repetition and on Kafka.
        body: the CloudEvent as JSON.
    """

    message_id: str
    body: bytes


def webhook_of(row: Row) -> Webhook:
    """The webhook of a row of claim_webhooks.sql."""
    attributes = attributes_of(row)
    event = {
        **attributes,
        "datacontenttype": "application/json",
        # Protobuf's own JSON: camelCase, int64 as text, enums by name, what is unset left out.
        "data": MessageToDict(event_of(row)),
    }
    return Webhook(attributes["id"], json.dumps(event, separators=(",", ":")).encode())
