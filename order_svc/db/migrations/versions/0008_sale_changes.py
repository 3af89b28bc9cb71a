"""What operators change of a sale: units added, title and price, state and window."""

from order_svc.db.migrate import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and its events; the previous release still works with them."""
    run_script("0008_sale_changes.sql")
