"""Bugs planted in order_svc: the consumer, the statements, the schema."""

from tests.faults.sabotage.edits import Edit, Sabotage

CONSUMER = "order_svc/consumer.py"
INTAKE = "order_svc/intake.py"
REPOSITORY = "order_svc/repository.py"
SCHEMA = "order_svc/migrations/versions/0001_orders.sql"
CANCEL = "order_svc/sql/cancel_orders.sql"
PAY = "order_svc/sql/pay_order.sql"
WRITE = "order_svc/sql/write_orders.sql"
WORK = "order_svc/work.py"

SABOTAGES = (
    Sabotage(
        name="commit-before-the-transaction",
        says="The consumer moves its offset before the orders are written.",
        edits=(
            Edit(
                CONSUMER,
                "        self._pace.took(len(records))\n",
                "        self._pace.took(len(records))\n"
                "        await self._commit(client, found)\n",
            ),
        ),
    ),
    Sabotage(
        name="fault-skips-the-batch",
        says="The consumer moves on where the database did not take a batch.",
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
        says="The consumer makes its client anew where the database stands still.",
        edits=(
            Edit(
                CONSUMER,
                "            await self._pause(client, found, error)\n",
                "            raise ConsumerStalled from error\n",
            ),
        ),
    ),
    Sabotage(
        name="delay-of-the-inserted-only",
        says="A redelivered batch adds nothing to the delay set for rows that were there.",
        edits=(
            Edit(
                "order_svc/model.py",
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
                "order_svc/sql/judge_orders.sql",
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
                'if order["payment_id"] == payment.payment_id:',
                "if not order:",
            ),
        ),
    ),
    Sabotage(
        name="late-payment-forgotten",
        says="A payment that came too late is refused and not noted.",
        edits=(
            Edit(
                "order_svc/sql/record_late_payment.sql",
                "    VALUES ($1, $2, $3, $4)\n",
                "    SELECT $1, $2, $3::bigint, $4 WHERE false\n",
            ),
        ),
    ),
    Sabotage(
        name="ledger-row-forgotten",
        says="The cancellation of more than one unit is not on the ledger.",
        edits=(
            Edit(
                CANCEL,
                "SELECT sku, order_no, 'cancelled', quantity FROM cancelled\n",
                "SELECT sku, order_no, 'cancelled', quantity FROM cancelled WHERE quantity = 1\n",
            ),
        ),
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
                "order_svc/upkeep_service.py",
                "        await self._pipeline.await_consumed(timeout_s=timeout_s)\n        epoch =",
                "        epoch =",
            ),
        ),
    ),
    Sabotage(
        name="event-forgotten",
        says="Nobody is told that an order was paid.",
        edits=(
            Edit(
                "order_svc/event_relay.py",
                "[message_of(row) for row in rows]",
                '[message_of(row) for row in rows if row["kind"] != "paid"]',
            ),
        ),
    ),
)
