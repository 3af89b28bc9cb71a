"""Which Redis primary may promise units."""

from order_svc.db.migrate import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; the previous release still works with them."""
    run_script("0007_store_generation.sql")
