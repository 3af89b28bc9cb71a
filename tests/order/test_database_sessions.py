"""What sessions of the order service take from nobody but itself."""

from datetime import UTC, datetime, timedelta

import asyncpg

from order_svc.db.database import open_database
from order_svc.intake.writer import OrderWriter
from order_svc.sales.repository import SaleRepository
from tests.kits.factories import new_id
from tests.kits.order_store import reservations, settings_for, terms

WEEK_S = 7 * 24 * 3_600


def zone_whose_clocks_change_in(days: int) -> str:
    """A POSIX time zone that is an hour ahead from that day on, for two months."""
    start = datetime.now(UTC) + timedelta(days=days)
    end = start + timedelta(days=60)
    first, last = (day.timetuple().tm_yday for day in (start, end))
    return f"AAA0BBB-1,{first - 1}/0,{last - 1}/0"


async def test_a_window_of_days_is_as_long_where_the_clocks_change(database_dsn: str) -> None:
    """Seven days are 168 hours, as the buyer is told, whatever zone the database is in."""
    admin = await asyncpg.connect(database_dsn)
    name = await admin.fetchval("SELECT current_database()")
    zone = zone_whose_clocks_change_in(3)
    await admin.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    async with open_database(settings_for(database_dsn)) as database:
        sku = new_id("sku")
        await SaleRepository(database).register(terms(sku, window_s=WEEK_S))
        await OrderWriter(database).write(reservations(sku, 1))
    held = await admin.fetchval("SELECT extract(epoch FROM expires_at - created_at) FROM orders")
    await admin.close()
    assert held == WEEK_S
