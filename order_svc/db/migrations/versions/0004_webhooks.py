"""Webhooks: who is told of order events by HTTP, and what each of them has yet to be told."""

from order_svc.db.migrate import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and their trigger; the previous release still works with them."""
    run_script("0004_webhooks.sql")
