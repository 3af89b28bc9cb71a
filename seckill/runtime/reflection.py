"""Server reflection that also finds methods by name, as ghz asks for them.

The Python runtime's descriptor pool finds the file of a service or a field, but not of a method.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class _PoolWithMethods:
    """The default pool, which also finds a method by the name of its service."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Return the file that defines `symbol`; raise KeyError if none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, method = symbol.rpartition(".")
            if method not in self._pool.FindServiceByName(parent).methods_by_name:
                raise
            return self._pool.FindFileContainingSymbol(parent)


def enable_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Add reflection to `server`; `services` are the full names that it lists."""
    names = (*services, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_PoolWithMethods())
