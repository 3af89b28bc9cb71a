"""What a stage says when it cannot listen where it was told to."""


class CannotListen(Exception):
    """An address is taken, privileged, or not this machine's."""

    def __init__(self, address: str) -> None:
        """`address`: "host:port" or "unix:path"."""
        super().__init__(f"cannot listen on {address}: it is taken, privileged or not ours")
        self.address = address
