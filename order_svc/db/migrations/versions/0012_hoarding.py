"""Unpaid history, sightings of orders, and voids."""

from order_svc.db.migrate import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; the previous release still works."""
    run_script("0012_hoarding.sql")
