"""Buckets of a sale."""

from order_svc.db.migrate import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the buckets; to the previous release every sale has one, as it registers none other."""
    run_script("0014_sale_buckets.sql")
