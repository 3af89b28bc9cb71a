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
    """The default pool; what it cannot find is looked for by the name of its parent."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that defines `symbol`; raises KeyError where none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, method = symbol.rpartition(".")
            if method not in self._pool.FindServiceByName(parent).methods_by_name:
                raise
            return self._pool.FindFileContainingSymbol(parent)


def enable_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Let `server` tell what it serves; `services` are full names."""
    names = (*services, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_PoolWithMethods())
