"""What operators changed of a sale, so that a rebuild brings it back."""

from order_svc.db.migrate import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; the previous release still works with it."""
    run_script("0003_sale_records.sql")
