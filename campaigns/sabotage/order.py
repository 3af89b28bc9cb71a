"""Bugs planted in order_svc: the consumer, the statements, the schema."""

from campaigns.sabotage.edits import Edit, Sabotage

CONSUMER = "order_svc/intake/consumer.py"
DATABASE = "order_svc/db/database.py"
INTAKE = "order_svc/intake/writer.py"
REPOSITORY = "order_svc/payments/repository.py"
SCHEMA = "order_svc/db/migrations/versions/0001_orders.sql"
CANCEL = "order_svc/orders/sql/cancel_orders.sql"
READER = "order_svc/orders/reader.py"
PAY = "order_svc/payments/sql/record_payment.sql"
WRITE = "order_svc/intake/sql/write_orders.sql"
WORK = "order_svc/intake/batch_processor.py"

SABOTAGES = (
    Sabotage(
        name="commit-before-the-transaction",
        says="The consumer moves its offset before the orders are written.",
        edits=(
            Edit(
                CONSUMER,
                "        self._rate_limiter.record(len(records))\n",
                "        self._rate_limiter.record(len(records))\n"
                "        await self._commit(client, found)\n",
            ),
        ),
    ),
    Sabotage(
        name="fault-skips-the-batch",
        says="The consumer moves on though the database did not take a batch.",
        edits=(
            Edit(
                CONSUMER,
                "            await self._pause(client, found, error)\n",
                "            await self._commit(client, found)\n",
            ),
        ),
    ),
    Sabotage(
        name="fault-restarts-the-client",
        says="The consumer recreates its client while the database stands still.",
        edits=(
            Edit(
                CONSUMER,
                "            await self._pause(client, found, error)\n",
                "            raise ConsumerStalled from error\n",
            ),
        ),
    ),
    Sabotage(
        name="committed-offset-trusted",
        says="The consumer goes on at its offset in a log that was cut and has grown again.",
        edits=(
            Edit(
                "order_svc/intake/log_guard.py",
                "            if fingerprint != self._prints[partition]\n",
                "            if False\n",
            ),
        ),
    ),
    Sabotage(
        name="stale-plan-raised",
        says="A transaction whose cached statement a migration has changed is not run again.",
        edits=(Edit(DATABASE, "    asyncpg.InvalidCachedStatementError,\n", ""),),
    ),
    Sabotage(
        name="read-only-sessions-kept",
        says="Sessions with a database that has become a replica stay in the pool.",
        edits=(
            Edit(
                DATABASE,
                "            await self._replace_connections(error)\n"
                "        return await self._attempt(work)\n",
                "            raise\n        return await self._attempt(work)\n",
            ),
        ),
    ),
    Sabotage(
        name="delay-of-the-inserted-only",
        says="A redelivered batch adds nothing to the delay set for rows that were there.",
        edits=(
            Edit(
                "order_svc/intake/written.py",
                "        for row in self.found:\n            if row",
                "        for row in ():\n            if row",
            ),
        ),
    ),
    Sabotage(
        name="sold-without-a-guard",
        says="The database takes orders beyond the stock.",
        edits=(
            Edit(
                INTAKE,
                'return all(count <= sales[sku]["room"] for sku, count in units.items())',
                "return True",
            ),
            Edit(
                SCHEMA,
                "CHECK (sold BETWEEN 0 AND total)",
                "CHECK (sold >= 0)",
            ),
        ),
    ),
    Sabotage(
        name="second-order-of-a-buyer",
        says="The database takes a second live order of the same buyer.",
        edits=(
            Edit(
                SCHEMA,
                "CREATE UNIQUE INDEX orders_one_live_per_buyer",
                "CREATE INDEX orders_one_live_per_buyer",
            ),
        ),
    ),
    Sabotage(
        name="redelivery-refused",
        says="The database refuses a reservation that comes again, instead of passing over it.",
        edits=(
            Edit(WRITE, "    ON CONFLICT DO NOTHING\n", ""),
            Edit(
                "order_svc/intake/sql/judge_orders.sql",
                "    WHERE NOT EXISTS (SELECT FROM orders o WHERE o.order_no = i.order_no)\n",
                "",
            ),
        ),
    ),
    Sabotage(
        name="poison-swallowed",
        says="A message that is no order is passed over, and no dead letter tells of it.",
        edits=(
            Edit(
                WORK,
                "        await self._dead_letters.write(letters)\n",
                "        letters.clear()\n",
            ),
        ),
    ),
    Sabotage(
        name="last-list-of-events-wins",
        says="A replica that names other kinds of webhook events writes its own list back.",
        edits=(
            Edit(
                "order_svc/webhooks/sql/register_webhook_endpoints.sql",
                "jsonb_each_text(known.kinds_named || excluded.kinds_named)",
                "jsonb_each_text(excluded.kinds_named)",
            ),
        ),
    ),
    Sabotage(
        name="zone-of-the-database",
        says="Sessions count days in the database's time zone.",
        edits=(Edit("order_svc/db/sessions.py", '        "timezone": "UTC",\n', ""),),
    ),
    Sabotage(
        name="cut-log-taken-for-consumed",
        says="A rebuild does not wait for messages of a log that ends before what was committed.",
        edits=(
            Edit(
                "order_svc/intake/barrier.py",
                "len(log) if committed > log.stop else",
                "0 if committed > log.stop else",
            ),
        ),
    ),
    Sabotage(
        name="foreign-redis-confirmed",
        says="The order service confirms a Redis that belongs to another mesh.",
        edits=(
            Edit(
                "order_svc/sales/sql/confirm_store.sql",
                " AND $5 IN ('', mesh_id)\n",
                " AND ($5 = $5)\n",
            ),
        ),
    ),
    Sabotage(
        name="calls-forgotten-in-kafka",
        says="Events of a batch do not say which call reserved them.",
        edits=(
            Edit(
                "inventory_svc/outbox/entry.py",
                "return int(epoch), int(reserve_ms), request_ids.given(None, call_id)",
                'return int(epoch), int(reserve_ms), ""',
            ),
        ),
    ),
    Sabotage(
        name="waits-for-a-full-redis",
        says="The consumer repeats a batch until Redis takes its part of it.",
        edits=(
            Edit(
                "order_svc/intake/delays.py",
                '                log.warning("delay set not written", orders=len(expire_times_s),'
                " error=str(error))\n",
                "                raise\n",
            ),
        ),
    ),
    Sabotage(
        name="late-delays-forgotten",
        says="What Redis did not take is not added to the delay set later.",
        edits=(
            Edit(
                "order_svc/intake/delays.py",
                "        self._late.update(islice(expire_times_s.items(), max(0, room)))\n",
                "        del room\n",
            ),
        ),
    ),
    Sabotage(
        name="unwritten-letter-ignored",
        says="The offset moves although the dead letters could not be written.",
        edits=(
            Edit(
                WORK,
                "        await self._dead_letters.write(letters)\n",
                "        from contextlib import suppress\n\n"
                "        from seckill.errors import SeckillError\n\n"
                "        with suppress(SeckillError):\n"
                "            await self._dead_letters.write(letters)\n",
            ),
        ),
    ),
    Sabotage(
        name="cancel-without-compare",
        says="A cancellation takes orders that were paid meanwhile.",
        edits=(
            Edit(
                CANCEL,
                "WHERE order_no = ANY ($1) AND status = 'pending'",
                "WHERE order_no = ANY ($1) AND status IN ('pending', 'paid')",
            ),
            Edit(CANCEL, " AND orders.status = 'pending'\n", "\n"),
            Edit(
                CANCEL,
                "SET status = 'cancelled',",
                "SET status = 'cancelled', paid_at = NULL, payment_id = NULL,",
            ),
        ),
    ),
    Sabotage(
        name="pay-without-compare",
        says="A payment takes orders that were cancelled meanwhile.",
        edits=(
            Edit(
                PAY,
                "SET status = 'paid', paid_at = now(), payment_id = $2\n",
                "SET status = 'paid', paid_at = least(now(), expires_at - interval '1 ms'),\n"
                "        payment_id = $2, cancelled_at = NULL, cancel_reason = NULL\n",
            ),
            Edit(PAY, "WHEN f.status = 'cancelled' OR f.expired THEN", "WHEN false THEN"),
            Edit(
                PAY,
                "status = 'pending' AND expires_at > now()",
                "status IN ('pending', 'cancelled')",
            ),
        ),
    ),
    Sabotage(
        name="payment-id-forgotten",
        says="A payment notice that comes again is taken for another payment.",
        edits=(
            Edit(
                REPOSITORY,
                'reason = self.payment["reason"]\n',
                'reason = self.payment["reason"] if self.first else "already_paid"\n',
            ),
        ),
    ),
    Sabotage(
        name="late-payment-forgotten",
        says="A payment that came too late is refused and not noted.",
        edits=(
            Edit(
                PAY,
                "    WHERE NOT EXISTS (",
                "    WHERE reason IS DISTINCT FROM 'too_late' AND NOT EXISTS (",
            ),
            Edit(REPOSITORY, "raise OrderNotFound(", "raise PaymentTooLate("),
        ),
    ),
    Sabotage(
        name="ledger-row-forgotten",
        says="The cancellation of more than one unit is not on the ledger.",
        edits=(
            Edit(
                CANCEL,
                "SELECT sku, order_no, 'cancelled', quantity FROM cancelled\n    WHERE ",
                "SELECT sku, order_no, 'cancelled', quantity FROM cancelled\n"
                "    WHERE quantity = 1 AND ",
            ),
        ),
    ),
    Sabotage(
        name="outdated-order-kept",
        says="An order stays in the projection as it was, if Redis does not take it as it is.",
        edits=(Edit(READER, "await self._projection.remove(order_nos)", "pass"),),
    ),
    Sabotage(
        name="outdated-order-forgotten",
        says="What could not be removed from the projection at once is polled as it was.",
        edits=(Edit(READER, "        self._outdated.add(order_nos)\n", ""),),
    ),
    Sabotage(
        name="cancel-keeps-sold",
        says="A cancellation leaves its units counted as sold.",
        edits=(Edit(CANCEL, "SET sold = sold - ended.units", "SET sold = sold - 0"),),
    ),
    Sabotage(
        name="rebuild-without-waiting",
        says="A rebuild does not wait until Kafka is drained.",
        edits=(
            Edit(
                "order_svc/rpc/recovery.py",
                "        await self._barrier.await_consumed(timeout_s=timeout_s)\n        epoch =",
                "        epoch =",
            ),
        ),
    ),
    Sabotage(
        name="event-forgotten",
        says="No event says that an order was paid.",
        edits=(
            Edit(
                "order_svc/events/relay.py",
                "[message_of(row) for row in rows]",
                '[message_of(row) for row in rows if row["kind"] != "paid"]',
            ),
        ),
    ),
    Sabotage(
        name="price-changes-while-it-sells",
        says="Title and price change also after the start.",
        edits=(
            Edit(
                "order_svc/sales/changes.py",
                "    if starts_at is None or starts_at <= stands_at or has_orders:\n",
                "    if starts_at is None and has_orders and not stands_at:\n",
            ),
        ),
    ),
)
