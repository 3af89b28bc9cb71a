"""Sales, orders, restore outbox, late payments and the stock ledger."""

from order_svc.db.migrate import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    run_script("0001_orders.sql")
