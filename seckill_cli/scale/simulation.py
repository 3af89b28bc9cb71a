"""Lets a crowd come to a mesh, and tells what happened."""

from collections.abc import Mapping
from dataclasses import dataclass

from simpy import Environment

from seckill_cli.scale.costs import Costs
from seckill_cli.scale.crowd import RESERVED, SOLD_OUT, Answers, Callers, Cohort, Crowd
from seckill_cli.scale.layout import Layout
from seckill_cli.scale.mesh import Mesh

# How often it is looked whether all orders are written, and how long that is waited for.
LOOK_S = 0.005
SETTLE_MAX_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a crowd.

    Attributes:
        answers: of its calls.
        answered_s: from the start to the last answer.
        orders, written_s: orders, and seconds from the start until the last one was written; None
            if that took too long.
        used: stage → cores that all its processes used on the mean while calls were answered.
        cpu_s: stage → seconds of a core that they used in all, until the last order was written.
        batch: attempts in a batch of a gateway, on the mean.
        lock_wait_s: that transactions have waited for the row of a sale, all together.
    """

    answers: Answers
    answered_s: float
    orders: int
    written_s: float | None
    used: Mapping[str, float]
    cpu_s: Mapping[str, float]
    batch: float
    lock_wait_s: float

    @property
    def rate_per_s(self) -> float:
        """Attempts a second that were decided in time."""
        return self._decided / self.answered_s if self.answered_s else 0.0

    @property
    def lost_share(self) -> float:
        """Of all attempts those that were refused for want of time, or answered too late."""
        total = self.answers.outcomes.total()
        return 1 - self._decided / total if total else 0.0

    @property
    def _decided(self) -> int:
        return self.answers.outcomes[RESERVED] + self.answers.outcomes[SOLD_OUT]


def simulate(
    layout: Layout,
    costs: Costs,
    crowd: Crowd,
    *,
    units: int,
    sales: int = 1,
    granted: float = 1.0,
    seed: int = 1,
    settle_max_s: float = SETTLE_MAX_S,
) -> Outcome:
    """Let a crowd come, until every call is answered and every order is written.

    Args:
        layout: processes, cores and limits.
        costs: what each step takes.
        crowd: who comes.
        units: for sale, all sales together.
        sales: that are sold at the same time; a sale is in one shard of Redis, and its orders are
            written by one transaction at a time.
        granted: share of the attempts that get a unit while there are some.
        seed: of what is random.
        settle_max_s: simulated seconds that orders are waited for after the last answer.
    """
    env = Environment()

    def answered(cohort: Cohort, outcome: str) -> None:
        callers.answered(cohort, outcome)

    mesh = Mesh(
        env,
        layout,
        costs,
        units=units,
        sales=sales,
        granted=granted,
        deadline_s=crowd.deadline_s,
        answered=answered,
    )
    callers = Callers(env, crowd, mesh.send, sales=sales, seed=seed)
    env.run(until=callers.done)
    answered_s = callers.answers.last_s
    busy_s = mesh.machines.busy_s()
    ends_s = env.now + settle_max_s
    topic = mesh.topic
    while topic.orders < mesh.stock.reserved and env.now < ends_s:
        env.run(until=env.now + LOOK_S)
    return Outcome(
        answers=callers.answers,
        answered_s=answered_s,
        orders=topic.orders,
        written_s=topic.last_s if topic.orders >= mesh.stock.reserved else None,
        used={stage: seconds / max(answered_s, LOOK_S) for stage, seconds in busy_s.items()},
        cpu_s=mesh.machines.busy_s(),
        batch=mesh.batch,
        lock_wait_s=topic.waited_s,
    )
