"""Refunds, units written off, reservations refused as invalid, and the outbox of order events."""

from order_svc.db.migrate import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add everything; the previous release still works with it."""
    run_script("0002_refunds_and_events.sql")
