"""What replicas share: kinds of webhook events by when each was named, and which mesh this is."""

from order_svc.db.migrate import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; the previous release still works with them."""
    run_script("0009_shared_facts.sql")
