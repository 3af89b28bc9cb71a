"""What operators change of a sale: in one transaction with its line on record and its event."""

from datetime import UTC, datetime, timedelta
from typing import Any

from order_svc.db.database import Connection, Database, Row
from order_svc.db.statements import statement
from order_svc.sales.model import SALE_STATE_NAMES, change_of, facts_text, record_of
from seckill.errors import InvalidField, SaleNotFound, SaleStateConflict
from seckill.runtime import request_ids
from seckill.v1 import order_pb2, sale_pb2
from seckill.validation import UNITS_MAX

# Additions of one sale; their ids are kept for ever.
ADDITIONS_MAX = 1_000
# Title and price stand from so long before the start: the clocks of the stores differ, and what is
# changed here is in Redis a moment later.
TERMS_STAND_S = 1.0


class SaleChanges:
    """Changes sales. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_units(
        self, request: order_pb2.AddUnitsRequest, *, operator: str
    ) -> order_pb2.AddUnitsResponse:
        """Add units to a sale, once for each addition.

        Raises:
            SaleNotFound: the sale is not registered.
            SaleStateConflict: it is closed, over, or has too many additions.
            InvalidField: too many units, or the addition is on record with other units.
        """
        sku, units = request.sku, request.units

        async def work(connection: Connection) -> order_pb2.AddUnitsResponse:
            sale = await _locked(connection, sku)
            found = await _row(connection, "find_addition", sku, request.addition_id)
            if found["added_units"] is not None:
                _require_same_units(units, found["added_units"])
                return order_pb2.AddUnitsResponse(sale=record_of(sale))
            _require_room(sale, units, additions=found["additions"])
            await connection.execute(statement("sales/add_units"), sku, units)
            await _note(
                connection,
                sku,
                operator=operator,
                before=sale_pb2.SaleFacts(total_units=sale["total"]),
                after=sale_pb2.SaleFacts(total_units=sale["total"] + units),
                addition=(request.addition_id, units),
            )
            changed = record_of(await _row(connection, "snapshot_sale", sku))
            return order_pb2.AddUnitsResponse(sale=changed, added=True)

        return await self._database.transact(work)

    async def change_terms(
        self, request: order_pb2.ChangeTermsRequest, *, operator: str
    ) -> order_pb2.SaleRecord:
        """Change title and price, as far as they are given, of a sale that has not started.

        Raises:
            SaleNotFound: the sale is not registered.
            SaleStateConflict: it is closed.
            InvalidField: it has started; names each field that would change.
        """
        sku = request.sku

        async def work(connection: Connection) -> order_pb2.SaleRecord:
            sale = await _locked(connection, sku)
            title = request.title if request.HasField("title") else sale["title"]
            price = (sale["unit_price_minor"], sale["currency"])
            if request.HasField("unit_price"):
                price = (request.unit_price.minor_units, request.unit_price.currency)
            before, after = _terms_changed(sale, title, price)
            if before == after:
                return record_of(sale)
            await _require_not_started(connection, sale, after)
            await connection.execute(statement("sales/change_terms"), sku, title, *price)
            await _note(connection, sku, operator=operator, before=before, after=after)
            return record_of(await _row(connection, "snapshot_sale", sku))

        return await self._database.transact(work)

    async def record(
        self, request: order_pb2.RecordSaleRequest, *, operator: str
    ) -> order_pb2.RecordSaleResponse:
        """Record the state and the window of a sale, unless a later change is on record.

        Raises:
            SaleNotFound: the sale is not registered.
        """
        sku = request.sku

        async def work(connection: Connection) -> order_pb2.RecordSaleResponse:
            await connection.fetch(statement("sales/lock_sale_record"), sku)
            sale = await _row(connection, "snapshot_sale", sku)
            before, after = _schedule_changed(sale, request)
            if sale["revision"] >= request.revision:
                return order_pb2.RecordSaleResponse(
                    revision=sale["revision"], superseded=before != after
                )
            await connection.execute(
                statement("sales/record_sale"),
                sku,
                SALE_STATE_NAMES[request.state],
                request.start_time.ToDatetime(UTC),
                request.end_time.ToDatetime(UTC),
                request.revision,
            )
            if before != after:
                await _note(connection, sku, operator=operator, before=before, after=after)
            return order_pb2.RecordSaleResponse(revision=request.revision)

        return await self._database.transact(work)

    async def page(self, sku: str, *, after: int, limit: int) -> list[sale_pb2.SaleChange]:
        """Return up to `limit` changes above the id `after`; raises SaleNotFound."""
        if not await self._database.fetch("sales/find_sale", sku):
            raise SaleNotFound(metadata={"sku": sku})
        return [
            change_of(row)
            for row in await self._database.fetch("sales/list_changes", sku, after, limit)
        ]


async def _row(connection: Connection, name: str, sku: str, *arguments: Any) -> Row:
    row: Row | None = await connection.fetchrow(statement(f"sales/{name}"), sku, *arguments)
    if row is None:
        raise SaleNotFound(metadata={"sku": sku})
    return row


async def _locked(connection: Connection, sku: str) -> Row:
    """Lock the sale; what is read afterwards has all that earlier holders have committed."""
    await _row(connection, "lock_sale", sku)
    return await _row(connection, "snapshot_sale", sku)


async def _note(
    connection: Connection,
    sku: str,
    *,
    operator: str,
    before: sale_pb2.SaleFacts,
    after: sale_pb2.SaleFacts,
    addition: tuple[str, int] | tuple[None, None] = (None, None),
) -> None:
    await connection.execute(
        statement("sales/note_change"),
        sku,
        operator,
        facts_text(before),
        facts_text(after),
        *addition,
        request_ids.current(),
    )


def _require_same_units(units: int, known: int) -> None:
    if units != known:
        raise InvalidField([("units", f"must be {known}, as this addition_id was added first")])


def _require_room(sale: Row, units: int, *, additions: int) -> None:
    metadata = {"sku": sale["sku"]}
    if sale["state"] == "closed":
        raise SaleStateConflict("a closed sale stays closed", metadata=metadata)
    if sale["ends_at"] <= sale["read_at"]:
        raise SaleStateConflict("the sale is over: change its end first", metadata=metadata)
    if additions >= ADDITIONS_MAX:
        raise SaleStateConflict(f"the sale has {additions} additions", metadata=metadata)
    if sale["total"] + units > UNITS_MAX:
        most = UNITS_MAX - sale["total"]
        raise InvalidField(
            [("units", f"must be at most {most}: a sale has at most {UNITS_MAX} in all")]
        )


async def _require_not_started(
    connection: Connection, sale: Row, changes: sale_pb2.SaleFacts
) -> None:
    sku, starts_at = sale["sku"], sale["starts_at"]
    if sale["state"] == "closed":
        raise SaleStateConflict("a closed sale stays closed", metadata={"sku": sku})
    stands_at = sale["read_at"] + timedelta(seconds=TERMS_STAND_S)
    has_orders = (await _row(connection, "has_orders", sku))["has_orders"]
    if starts_at is None or starts_at <= stands_at or has_orders:
        raise InvalidField(
            [
                (field.name, "can be changed only before the sale starts")
                for field, _ in changes.ListFields()
            ]
        )


def _terms_changed(
    sale: Row, title: str, price: tuple[int, str]
) -> tuple[sale_pb2.SaleFacts, sale_pb2.SaleFacts]:
    """Return what of title and price would change: as it is, and as it would be."""
    before, after = sale_pb2.SaleFacts(), sale_pb2.SaleFacts()
    if title != sale["title"]:
        before.title, after.title = sale["title"], title
    known = (sale["unit_price_minor"], sale["currency"])
    if price != known:
        for facts, (minor_units, currency) in ((before, known), (after, price)):
            facts.unit_price.minor_units, facts.unit_price.currency = minor_units, currency
    return before, after


def _schedule_changed(
    sale: Row, request: order_pb2.RecordSaleRequest
) -> tuple[sale_pb2.SaleFacts, sale_pb2.SaleFacts]:
    """Return what of state and window would change: as it is, and as it would be."""
    known, before, after = record_of(sale), sale_pb2.SaleFacts(), sale_pb2.SaleFacts()
    if request.state != known.state:
        before.state, after.state = known.state, request.state
    was, will_be = known.terms, request
    if _moves_start(sale, request):
        after.start_time.CopyFrom(will_be.start_time)
        if was.HasField("start_time"):
            before.start_time.CopyFrom(was.start_time)
    if was.end_time.ToMicroseconds() != will_be.end_time.ToMicroseconds():
        before.end_time.CopyFrom(was.end_time)
        after.end_time.CopyFrom(will_be.end_time)
    return before, after


def _moves_start(sale: Row, request: order_pb2.RecordSaleRequest) -> bool:
    """Whether the start changes: of a sale that started at once Redis names the moment, which is
    news only if it has not come yet.
    """
    start = request.start_time.ToDatetime(UTC)
    known: datetime | None = sale["starts_at"]
    return start > sale["read_at"] if known is None else start != known
