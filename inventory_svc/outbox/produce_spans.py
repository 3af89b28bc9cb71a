"""Spans of what the relay sends to Kafka: one for each outbox entry whose call is traced."""

from collections.abc import Iterable

from inventory_svc.outbox.entry import Entry, Record
from seckill.runtime import traceparent, tracing
from seckill.runtime.kafka_writer import Delivery
from seckill.runtime.spans import Span, Tracer


class ProduceSpans:
    """The spans of one delivery."""

    def __init__(self, tracer: Tracer, topic: str) -> None:
        self._tracer = tracer
        self._topic = topic
        # By the identity of their entries, which live as long as the records do.
        self._spans: dict[int, Span] = {}

    def begin(self, records: Iterable[Record]) -> list[Record]:
        """Return the records as they are sent: those that are traced name their span."""
        return [record if record.entry.trace is None else self._named(record) for record in records]

    def _named(self, record: Record) -> Record:
        entry = record.entry
        span = self._spans.get(id(entry))
        if span is None:
            span = self._tracer.begin(f"send {self._topic}", "producer", parent=entry.trace)
            span.attributes = {
                "messaging.system": "kafka",
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": self._topic,
                "messaging.batch.message_count": entry.reservations,
                "seckill.outbox.entry": entry.entry_id.decode(),
            }
            self._spans[id(entry)] = span
        header = (traceparent.HEADER, span.context.header.encode())
        return record._replace(headers=[header])

    def end(self, delivery: Delivery[Record]) -> None:
        """Hand the spans over; if Kafka has not taken everything, they have failed."""
        error = "" if delivery.error is None else tracing.describe(delivery.error)
        for span in self._spans.values():
            self._tracer.end(span, error=error)


def spans_of(entries: Iterable[Entry], topic: str) -> ProduceSpans | None:
    """Return the spans of a delivery of these entries; None if none of them is traced."""
    tracer = tracing.tracer
    if tracer is None or not any(entry.trace for entry in entries):
        return None
    return ProduceSpans(tracer, topic)
