"""Envoy: it passes calls on, or refuses those for sales that are known to be sold out."""

from collections.abc import Generator
from typing import Any

from simpy import Environment, Event

from seckill_cli.scale.cores import Server
from seckill_cli.scale.costs import EDGE, PASS, REFUSE, Costs
from seckill_cli.scale.crowd import SOLD_OUT, Answered, Cohort
from seckill_cli.scale.gateway import Gateway
from seckill_cli.scale.stock import Stock


class Edge:
    """One process."""

    def __init__(
        self,
        env: Environment,
        server: Server,
        gateway: Gateway,
        stock: Stock,
        costs: Costs,
        *,
        answered: Answered,
    ) -> None:
        """`gateway`: which it passes calls on to."""
        self._env = env
        self._server = server
        self._gateway = gateway
        self._stock = stock
        self._pass = costs.of(EDGE, PASS)
        self._refuse = costs.of(EDGE, REFUSE)
        self._answered = answered

    def take(self, cohort: Cohort) -> None:
        """Take calls in."""
        self._env.process(self._handle(cohort))

    def _handle(self, cohort: Cohort) -> Generator[Event, Any, None]:
        if self._stock.known_gone(cohort.sale):
            yield self._server.work(self._refuse.of(cohort.count))
            self._answered(cohort, SOLD_OUT)
        else:
            yield self._server.work(self._pass.of(cohort.count))
            self._gateway.take(cohort)
