"""What inventory knows of a sale that it is asked about: whether it is loaded, archived or lost."""

from typing import Any

import grpc

from inventory_svc.sales.registry import ANSWER_TTL_S, Metadata, SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.sales.watch import SalesWatch
from seckill.errors import SaleNotFound, SaleNotLoaded, SaleStateConflict
from seckill.runtime.server import Deadline, time_left_s
from seckill.v1 import order_pb2, sale_pb2

Context = grpc.aio.ServicerContext[Any, Any]


def authorization_of(context: Context) -> Metadata:
    """Return the operator's JWT, which order_svc verifies and names them by."""
    metadata = context.invocation_metadata() or ()
    return [(key, value) for key, value in metadata if key == "authorization"]


class KnownSales:
    """Asks Redis, and of what it lacks the database."""

    def __init__(
        self, *, sales: Sales, watch: SalesWatch, registry: SaleRegistry, order_timeout_s: float
    ) -> None:
        """`order_timeout_s`: longest wait for the order service."""
        self._sales = sales
        self._watch = watch
        self._registry = registry
        self._order_timeout_s = order_timeout_s

    async def loaded(self, sku: str) -> sale_pb2.Sale:
        """Return a sale. Raises SaleNotLoaded unless Redis has it."""
        (sale,) = await self._sales.read([sku])
        if not sale.loaded:
            raise SaleNotLoaded(metadata={"sku": sku})
        return sale

    async def refuse_archived(self, sku: str, context: Deadline) -> None:
        """Raise SaleStateConflict if a sale is archived; return if Redis has lost it.

        Raises SaleNotFound, too, if there is no such sale.
        """
        if await self.find_archived(sku, context) is not None:
            raise SaleStateConflict(
                "the sale is archived; a rebuild brings it back", metadata={"sku": sku}
            )

    async def find_archived(
        self, sku: str, context: Deadline, *, max_age_s: float = ANSWER_TTL_S
    ) -> order_pb2.SaleRecord | None:
        """Return the record of a sale that is not loaded if it is archived, None if it is lost.

        `max_age_s`: how old that may be. Raises SaleNotFound if there is no such sale.
        """
        if await self._is_listed(sku):
            return None
        record = await self._registry.look_up(
            sku, timeout_s=time_left_s(context, self._order_timeout_s), max_age_s=max_age_s
        )
        if record is None:
            raise SaleNotFound(metadata={"sku": sku})
        return record if record.HasField("archive_time") else None

    async def is_registered(self, sku: str, context: Deadline) -> bool:
        """Return whether there is such a sale; True if the order service does not answer."""
        if await self._is_listed(sku):
            return True
        timeout_s = time_left_s(context, self._order_timeout_s)
        return await self._registry.look_up(sku, timeout_s=timeout_s) is not None

    async def _is_listed(self, sku: str) -> bool:
        """Return whether Redis has a sale, or has lost it."""
        return self._watch.knows(sku) or await self._sales.known(sku)
