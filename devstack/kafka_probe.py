"""Ask a Kafka broker for its metadata, in the wire protocol, without a client."""

import socket
import struct

PROBE_TIMEOUT_S = 1.0
# Metadata v1: the oldest that lists no topics when given none. Kafka 4 still speaks it.
_METADATA_KEY, _METADATA_VERSION = 3, 1
_CLIENT_ID = b"seckill-ready"
_RESPONSE_MAX_BYTES = 1024 * 1024


def count_brokers(bootstrap: str) -> int:
    """Count the brokers that take requests.

    A broker lists itself only after the controller has let it in, so 1 means ready.

    Args:
        bootstrap: host:port, several separated by commas; the first that answers counts.

    Returns:
        The number of brokers; 0 when nothing answers.
    """
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            brokers = _ask(host.strip("[]"), int(port))
        except (OSError, ValueError, struct.error):
            continue
        if brokers > 0:
            return brokers
    return 0


def _ask(host: str, port: int) -> int:
    request = struct.pack(
        f">hhih{len(_CLIENT_ID)}si",
        *(_METADATA_KEY, _METADATA_VERSION, 1, len(_CLIENT_ID), _CLIENT_ID, 0),
    )
    with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length_bytes,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        if not 8 <= length_bytes <= _RESPONSE_MAX_BYTES:
            return 0
        response = connection.recv(length_bytes, socket.MSG_WAITALL)
    _correlation_id, brokers = struct.unpack_from(">ii", response)
    return int(brokers)
