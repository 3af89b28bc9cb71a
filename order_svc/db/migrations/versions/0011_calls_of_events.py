"""Events name the call that caused them."""

from order_svc.db.migrate import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; the previous release still works with them."""
    run_script("0011_calls_of_events.sql")
