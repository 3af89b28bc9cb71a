"""A role for the order service, with the rights of deploy/stores/postgres-roles.sql."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from devstack.errors import StackError
from devstack.postgres import postgres_binary, query
from devstack.redis_users import password_of
from devstack.server import plain_environment

POSTGRES_ROLES = Path(__file__).parents[1] / "deploy" / "stores" / "postgres-roles.sql"
_TIMEOUT_S = 10.0


def postgres_dsn_of_order(administrator_dsn: str) -> str:
    """Make the roles if there are none, let the order service's have the rows, return its address.

    The schema is there already.

    Raises:
        StackError: Postgres refuses.
    """
    parts = urlsplit(administrator_dsn)
    owner, order = (
        password_of(role, parts.password or "") for role in ("seckill_owner", "seckill_order")
    )
    if query(
        administrator_dsn, "SELECT count(*) FROM pg_roles WHERE rolname = 'seckill_order'"
    ) == ("0"):
        _run_roles(administrator_dsn, owner=owner, order=order)
    # Here the administrator has migrated, so that what was there before is found again.
    query(
        administrator_dsn,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO seckill_order",
    )
    return f"postgresql://seckill_order:{order}@{parts.hostname}:{parts.port}{parts.path}"


def _run_roles(dsn: str, *, owner: str, order: str) -> None:
    done = subprocess.run(
        [
            *(str(postgres_binary("psql")), "-X", "-w", "-q", "-1", "-d", dsn),
            *("-v", "ON_ERROR_STOP=1", "-f", str(POSTGRES_ROLES)),
            *("-v", f"owner_password={owner}", "-v", f"order_password={order}"),
        ],
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise StackError((done.stderr.strip().splitlines() or ["psql failed"])[-1])
