"""The error of a service that cannot listen on its address."""


class CannotListen(Exception):
    """An address cannot be bound."""

    def __init__(self, address: str) -> None:
        """`address`: "host:port" or "unix:path"."""
        super().__init__(
            f"cannot listen on {address}: it is taken, privileged, or not an address of this host"
        )
        self.address = address
