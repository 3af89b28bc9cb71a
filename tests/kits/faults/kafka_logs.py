"""Damage to what a broker keeps: cut logs, and topics that are deleted and created again."""

from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from devstack import create_topics
from tests.kits.waiting import eventually


def cut_logs(directory: Path, topic: str, *, share: float) -> bytes:
    """Cut the partitions' logs of a topic down to a share of their bytes; the broker is down.

    `directory`: of the server. Returns what is gone, with the rest of batches that are cut through.
    """
    gone = b""
    for path in (directory / "data").glob(f"{topic}-[0-9]*/*.log"):
        data = path.read_bytes()
        kept_bytes = int(len(data) * share)
        with path.open("r+b") as log:
            log.truncate(kept_bytes)
        gone += data[_batch_at(data, kept_bytes) :]
    return gone


def _batch_at(data: bytes, position: int) -> int:
    """Return where the batch begins that is at a position of a log."""
    start = 0
    while start + 12 <= position:
        # Eight bytes of its first offset, then four of its length, which does not count the twelve.
        end = start + 12 + int.from_bytes(data[start + 8 : start + 12])
        if end > position:
            break
        start = end
    return start


async def recreate_topic(bootstrap: str, topic: str, *, partitions: int) -> None:
    """Delete a topic and create it again, without messages."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone)
    finally:
        await admin.close()
    await create_topics(bootstrap, {topic: partitions})
