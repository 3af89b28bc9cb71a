"""What sessions of the order database are set to, with and without a pooler before it.

A pooler that lends sessions for one transaction keeps nothing of ours: it refuses most settings of
a session, and what was prepared in one is not there in the next. So settings come with each
transaction then, and statements have no name. Locks are of transactions anyway, and nobody LISTENs.
"""

from collections.abc import Mapping
from typing import Any

from order_svc.db.settings import DatabaseSettings

# Of a statement that the next one replaces: a name would stay behind in a session of the pooler's,
# where another process may want it.
PREPARED_NAME = ""


def session_options(settings: DatabaseSettings) -> Mapping[str, Any]:
    """Return the options of a pool of connections that concern sessions."""
    # PgBouncer passes these two on to whatever session it lends.
    server_settings = {
        "application_name": "order_svc",
        # A window of seven days is 168 hours, also where the clocks change meanwhile.
        "timezone": "UTC",
    }
    if settings.postgres_pooler == "transaction":
        return {
            "server_settings": server_settings,
            # asyncpg names statements only to find them again.
            "statement_cache_size": 0,
            "reset": _leave_as_it_is,
        }
    return {"server_settings": server_settings | _limits(settings)}


def transaction_settings(settings: DatabaseSettings) -> str:
    """Return the statements with which each transaction starts; "" if sessions are set already."""
    if settings.postgres_pooler == "none":
        return ""
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _limits(settings).items())


def _limits(settings: DatabaseSettings) -> dict[str, str]:
    timeout_s = settings.postgres_timeout_s
    return {
        # The server gives up before we do, so that no session holds a sale's lock for longer. A
        # timeout of ours then says that the server is frozen, or the way to it is.
        "statement_timeout": str(int(timeout_s * 900)),
        "idle_in_transaction_session_timeout": str(int(timeout_s * 1000)),
        # Tables grow from nothing during a sale; a plan cached at its start would scan them.
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
    }


async def _leave_as_it_is(_connection: Any) -> None:
    """Reset nothing: the session that the pooler lent us is somebody else's already."""
