"""Calls that a pod makes with the certificate of its stage, one line of result each.

Runs in a pod from its input: `python - TARGET NAME PATH…`; the name is that in the certificate of
the server, and a path that starts with ! is called without a certificate of ours.
"""

import sys
from pathlib import Path
from typing import Any

import grpc

FOLDER = Path("/etc/seckill-mesh")
CALL_S = 10.0


def call(target: str, name: str, path: str, *, shown: bool) -> str:
    """Return the status of a call with an empty request, and what it says.

    Args:
        shown: whether we show our certificate.
    """
    authority, key, certificate = (
        (FOLDER / file).read_bytes() for file in ("ca.crt", "tls.key", "tls.crt")
    )
    own = (key, certificate) if shown else (None, None)
    credentials = grpc.ssl_channel_credentials(authority, *own)
    options = (("grpc.ssl_target_name_override", name),)
    with grpc.secure_channel(target, credentials, options=options) as channel:
        method: Any = channel.unary_unary(path)
        try:
            method(b"", timeout=CALL_S)
        except grpc.RpcError as error:
            # What gRPC raises is a call, too.
            failed: Any = error
            return f"{failed.code().name} {failed.details()}"
    return "OK"


if __name__ == "__main__":
    _, server, named, *paths = sys.argv
    for each in paths:
        answer = call(server, named, each.removeprefix("!"), shown=not each.startswith("!"))
        print(answer.splitlines()[0])  # noqa: T201 - what the campaign reads
