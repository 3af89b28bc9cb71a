"""Names of what inventory_svc keeps in Redis.

The braces are literal: the keys of one sku hash to one slot of a Redis Cluster, so that a script
may touch them all.
"""

# Set of the skus of all sales; never removed from, so that a sale whose keys are lost is missed.
SKUS = "seckill:skus"
# Pub/sub channel: a message is a sku whose state, window or sold-out flag has changed.
NOTICES = "seckill:notices"
# String "`Unix ms` `reason`" while nothing may be sold; and the pub/sub channel that tells when it
# has been set or removed.
KILL_SWITCH = "seckill:kill-switch"
# Consumer group of the relay on each outbox stream.
RELAY_GROUP = "relay"
# The only field of an outbox entry.
ENTRY_FIELD = b"o"


def sale_key(sku: str) -> str:
    """Hash with the sale's terms, state and epoch."""
    return f"seckill:sale:{{{sku}}}"


def stock_key(sku: str) -> str:
    """String with the units nobody holds."""
    return f"seckill:stock:{{{sku}}}"


def users_key(sku: str) -> str:
    """Hash user → hold."""
    return f"seckill:users:{{{sku}}}"


def staged_key(sku: str, epoch: int) -> str:
    """Hash user → hold of a rebuild that is under way."""
    return f"seckill:staged:{{{sku}}}:{epoch}"


def asked_key(sku: str) -> str:
    """String without meaning: written so that there is a write whose replication can be awaited."""
    return f"seckill:asked:{{{sku}}}"


def queue_key(sku: str) -> str:
    """Stream of reservations that Kafka does not have yet: the outbox."""
    return f"seckill:queue:{{{sku}}}"
