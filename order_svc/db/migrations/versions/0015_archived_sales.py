"""Archived sales are told from lost ones."""

from order_svc.db.migrate import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a sale was archived; to the previous release it stays a sale that Redis lacks."""
    run_script("0015_archived_sales.sql")
