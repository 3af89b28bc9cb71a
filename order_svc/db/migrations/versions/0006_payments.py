"""One table of payments, whose fates hold over all orders."""

from order_svc.db.migrate import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table with what is on record; the previous release still works with it."""
    run_script("0006_payments.sql")
