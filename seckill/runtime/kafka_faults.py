"""Lost connections to Kafka, whatever the event loop calls them."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaConnectionError

# What uvloop says of a write to a transport that is closed; asyncio drops such a write.
CLOSED = "the handler is closed"


@contextmanager
def kafka_faults() -> Iterator[None]:
    """Raise KafkaConnectionError where the client has written to a connection that is closed.

    aiokafka does not expect the RuntimeError that uvloop raises then, and lets it through.
    """
    try:
        yield
    except RuntimeError as error:
        if CLOSED not in str(error):
            raise
        raise KafkaConnectionError(str(error)) from error
