"""Names of what inventory_svc keeps in Redis.

The braces are literal: the keys of one tag hash to one slot of a Redis Cluster, so that a script
may touch them all. A sale has the tag of its sku; one of several buckets has a tag for each of them
instead (seckill/runtime/bucket_tags.py). The prefix is that of the mesh.
"""

from seckill.runtime import keyspace
from seckill.runtime.bucket_tags import BUCKET_MARK

# Consumer group of the relay on each outbox stream.
RELAY_GROUP = "relay"
# What an outbox entry has: a batch of reservations, or one; and of few the trace.
BATCH_FIELD, SINGLE_FIELD, TRACE_FIELD = b"b", b"o", b"t"


def skus_key() -> str:
    """Set of the skus of all sales; never removed from, so that a sale whose keys are lost is
    missed.
    """
    return f"{keyspace.prefix}:skus"


def buckets_key() -> str:
    """Hash sku → number of buckets, of the sales that have several: a copy of what the database
    says, which never changes.
    """
    return f"{keyspace.prefix}:buckets"


def notices_channel() -> str:
    """Pub/sub channel: a message is a sku whose state, window or sold-out flag has changed. The
    scripts make this name of their first key.
    """
    return f"{keyspace.prefix}:notices"


def kill_switch_key() -> str:
    """String "`Unix ms` `reason`" while nothing may be sold; and the pub/sub channel that tells
    when it has been set or removed.
    """
    return f"{keyspace.prefix}:kill-switch"


def generation_key(tag: str = "") -> str:
    """String: the token of the store's generation; who has it has that generation's data. Replicas
    and the files of Redis have it too (docs/adr/0019).

    `tag`: in a cluster each shard has one, in its lowest slot (docs/adr/0042).
    """
    return f"{keyspace.prefix}:generation{_tagged(tag)}"


def mesh_key(tag: str = "") -> str:
    """String: which mesh this Redis belongs to; written once, and compared by every other mesh.

    `tag`: as of `generation_key`.
    """
    return f"{keyspace.prefix}:mesh{_tagged(tag)}"


def _tagged(tag: str) -> str:
    return f":{{{tag}}}" if tag else ""


def sale_key(tag: str) -> str:
    """Hash with the sale's terms, state and epoch."""
    return f"{keyspace.prefix}:sale:{{{tag}}}"


def stock_key(tag: str) -> str:
    """String with the units that are not held."""
    return f"{keyspace.prefix}:stock:{{{tag}}}"


def users_key(tag: str) -> str:
    """Hash user → hold (grammar: stock/hold.py)."""
    return f"{keyspace.prefix}:users:{{{tag}}}"


def past_key(tag: str) -> str:
    """Hash user → the holds that a later one of the same buyer has replaced (stock/hold.py)."""
    return f"{keyspace.prefix}:past:{{{tag}}}"


def staged_key(tag: str, epoch: int) -> str:
    """Hash user → hold of a rebuild in progress."""
    return f"{keyspace.prefix}:staged:{{{tag}}}:{epoch}"


def staged_past_key(tag: str, epoch: int) -> str:
    """Hash user → earlier holds of a rebuild in progress."""
    return f"{keyspace.prefix}:staged-past:{{{tag}}}:{epoch}"


def replication_marker_key(tag: str) -> str:
    """Dummy write that WAIT can be issued against."""
    return f"{keyspace.prefix}:asked:{{{tag}}}"


def outbox_key(tag: str) -> str:
    """Stream of outbox entries: batches of reservations that Kafka does not have yet."""
    return f"{keyspace.prefix}:outbox:{{{tag}}}"


def backlog_key(tag: str) -> str:
    """Hash with how many entries and reservations the scripts have left in the outbox."""
    return f"{keyspace.prefix}:backlog:{{{tag}}}"


def single_outbox_key(sku: str) -> str:
    """Stream to which version 0.2 writes an entry for each reservation (docs/adr/0015)."""
    return f"{keyspace.prefix}:queue:{{{sku}}}"


def transfers_key(tag: str) -> str:
    """Hash of a bucket: `out:<bucket>` → "number units", the last transfer of units to that one, 0
    units once it is settled; `in:<bucket>` → number of the last one from it; `floor` → the lowest
    epoch that the bucket may be loaded under.
    """
    return f"{keyspace.prefix}:transfers:{{{tag}}}"


def tag_in(key: str) -> str:
    """Return the hash tag of a key of these."""
    return key[key.index("{") + 1 : key.index("}")]


def sku_of(key: str) -> str:
    """Return the sku of the sale that a key of these belongs to."""
    return tag_in(key).partition(BUCKET_MARK)[0]
