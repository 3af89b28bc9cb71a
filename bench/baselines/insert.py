"""A bare batched INSERT into the table of orders: nothing is checked, read or told.

Prints {"calls": …, "seconds": …}.
"""

import argparse
import asyncio
import json
import time
import uuid

import asyncpg
import uvloop

# As many rows a transaction as the order service writes.
BATCH = 1_000
STATEMENT = """
    INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency,
                        status, epoch, expires_at)
    SELECT i.order_no, $1, i.user_id, i.request_id, 1, 100, 'EUR', 'pending', 1,
           now() + interval '1 day'
    FROM unnest($2::text[], $3::text[], $4::text[]) AS i (order_no, user_id, request_id)
"""


async def insert(dsn: str, entries: int) -> float:
    """Insert; returns the seconds it took."""
    tag = uuid.uuid4().hex[:12].upper()
    rows = [
        (f"0{tag}{number:013d}", f"{tag}-{number}", f"attempt-{number}")
        for number in range(entries)
    ]
    connection = await asyncpg.connect(dsn)
    try:
        statement = await connection.prepare(STATEMENT)
        start_s = time.monotonic()
        for first in range(0, entries, BATCH):
            batch = rows[first : first + BATCH]
            await statement.fetch(f"insert-{tag}", *zip(*batch, strict=True))
        return time.monotonic() - start_s
    finally:
        await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("entries", type=int)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(insert(given.dsn, given.entries))
    print(json.dumps({"calls": given.entries, "seconds": seconds}))
