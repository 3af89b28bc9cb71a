"""The event loop of the services: uvloop, which does not wait half a minute for a TLS peer."""

from typing import Any

import uvloop

# How long a closed TLS connection awaits its peer's end. uvloop's 30 s are waited for in full
# whenever the peer has still sent something, as Kafka does to a consumer that is closed: each such
# client, and each service that ends, would take that long.
TLS_SHUTDOWN_TIMEOUT_S = 1.0


class EventLoop(uvloop.Loop):
    """A loop whose own TLS connections end soon after they are closed."""

    async def create_connection(
        self,
        *args: Any,
        ssl: Any = None,
        ssl_shutdown_timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Connect as asyncio's loop does; over TLS with the timeout above, if none is given."""
        if ssl and ssl_shutdown_timeout is None:
            ssl_shutdown_timeout = TLS_SHUTDOWN_TIMEOUT_S
        return await super().create_connection(
            *args, ssl=ssl, ssl_shutdown_timeout=ssl_shutdown_timeout, **options
        )
