"""What has to be known of sales to decide attempts: units, and who knows that there are none."""

from simpy import Environment

from seckill_cli.scale.crowd import SOLD_OUT_SALE


class Stock:
    """Units of each sale in Redis, and when the gateways hear that they are gone."""

    def __init__(
        self, env: Environment, *, sales: int, units: int, notice_s: float, granted: float = 1.0
    ) -> None:
        """
        Args:
            sales, units: how many sales, and units of all of them together.
            notice_s: until all gateways know that a sale is sold out.
            granted: share of the attempts that get a unit while there are some; the others have
                one already, or ask for too many.
        """
        self._env = env
        self._notice_s = notice_s
        self._units = [units // sales + (sale < units % sales) for sale in range(sales)]
        self._gone_s: dict[int, float] = {}
        self._granted = granted
        self._due = 0.0
        self.reserved = 0

    def reserve(self, sale: int, attempts: int) -> int:
        """Return how many of the attempts get a unit."""
        self._due += attempts * self._granted
        granted = min(int(self._due), self._units[sale])
        self._due -= int(self._due)
        self._units[sale] -= granted
        self.reserved += granted
        if not self._units[sale] and sale not in self._gone_s:
            self._gone_s[sale] = self._env.now + self._notice_s
        return granted

    def known_gone(self, sale: int) -> bool:
        """Whether a gateway refuses by itself."""
        if sale == SOLD_OUT_SALE:
            return True
        gone_s = self._gone_s.get(sale)
        return gone_s is not None and self._env.now >= gone_s
