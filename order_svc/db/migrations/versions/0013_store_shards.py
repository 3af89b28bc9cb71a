"""A generation for each shard of a Redis Cluster."""

from order_svc.db.migrate import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the shard; the previous release still works, for it knows one Redis."""
    run_script("0013_store_shards.sql")
