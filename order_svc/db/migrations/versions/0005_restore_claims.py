"""Claims on the rows of the restore outbox, so that replicas of rollback_svc share them."""

from order_svc.db.migrate import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the previous release still works with it."""
    run_script("0005_restore_claims.sql")
