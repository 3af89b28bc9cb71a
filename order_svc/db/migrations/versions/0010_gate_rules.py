"""Rules of the gate that operators change while the mesh runs."""

from order_svc.db.migrate import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; the previous release still works with them."""
    run_script("0010_gate_rules.sql")
