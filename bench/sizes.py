"""How much is measured: the whole run, and a quick one for those who change something."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Amounts of one run.

    Attributes:
        repetitions: of each pair; medians are taken over them.
        repeat_until_s: a repetition does not start later than this, nor one of the crowd later than
            half as long again: a busy machine costs repetitions, not a quarter of an hour.
        seconds: of intervals that go on for a time.
        buyers: distinct buyers of one interval of purchases.
        public_buyers: the same through Envoy, and through the rival's HTTP door.
        storm_buyers: buyers who try again and again after the sale is sold out. At the rates
            measured each stays below the ten calls a second that a bucket allows.
        crowd_buyers, crowd_attempts, crowd_units: the crowd.
        crowd_repetitions: of the crowd.
        alone_buyers: purchases with batches of one.
        decisions: through BatchReserve, and as single scripts.
        entries: through the relay, the producer, the consumer and the plain INSERT.
        follow_rate_per_s: orders a second whose way to their rows, and to being paid, is timed.
        calm_buyers: those of the peak, and of the calls before and after an overload.
        overload_s: how long each overload lasts.
        overload_times, edge_times: multiples of the peak that are offered, ascending; at the
            gateway and through the edge.
        calm_looks: intervals of half a second before an overload.
        quiet_budget_s: for waiting until the machine is quiet, and for repeating what was measured
            while it was not.
        traces_rounds: of purchases with and without traces, forth and back.
        idle_sales: sales that nobody buys from.
        idle_settle_s, idle_s: how long they are left alone, and then measured.
        pending_few, pending_many, due: orders that wait for their payment, and those to roll back.
    """

    repetitions: int
    repeat_until_s: float
    seconds: float
    buyers: int
    public_buyers: int
    storm_buyers: int
    crowd_buyers: int
    crowd_attempts: int
    crowd_units: int
    crowd_repetitions: int
    alone_buyers: int
    decisions: int
    entries: int
    follow_rate_per_s: float
    calm_buyers: int
    overload_s: float
    overload_times: tuple[float, ...]
    edge_times: tuple[float, ...]
    calm_looks: int
    quiet_budget_s: float
    traces_rounds: int
    idle_sales: int
    idle_settle_s: float
    idle_s: float
    pending_few: int
    pending_many: int
    due: int


FULL = Sizes(
    repetitions=5,
    repeat_until_s=480.0,
    seconds=3.0,
    buyers=80_000,
    public_buyers=40_000,
    storm_buyers=10_000,
    crowd_buyers=200_000,
    crowd_attempts=500_000,
    crowd_units=500,
    crowd_repetitions=3,
    alone_buyers=10_000,
    decisions=200_000,
    entries=100_000,
    follow_rate_per_s=100.0,
    calm_buyers=10_000,
    overload_s=5.0,
    overload_times=(0.5, 1, 2, 3, 5, 7, 10),
    edge_times=(2, 5, 10),
    calm_looks=6,
    quiet_budget_s=90.0,
    traces_rounds=8,
    idle_sales=1_000,
    idle_settle_s=20.0,
    idle_s=10.0,
    pending_few=10_000,
    pending_many=1_000_000,
    due=10_000,
)
QUICK = Sizes(
    repetitions=1,
    repeat_until_s=60.0,
    seconds=1.5,
    buyers=30_000,
    public_buyers=15_000,
    storm_buyers=10_000,
    crowd_buyers=40_000,
    crowd_attempts=100_000,
    crowd_units=500,
    crowd_repetitions=1,
    alone_buyers=3_000,
    decisions=50_000,
    entries=30_000,
    follow_rate_per_s=100.0,
    calm_buyers=5_000,
    overload_s=1.5,
    overload_times=(0.5, 2, 5, 10),
    edge_times=(2, 5, 10),
    calm_looks=3,
    quiet_budget_s=15.0,
    traces_rounds=1,
    idle_sales=1_000,
    idle_settle_s=10.0,
    idle_s=5.0,
    pending_few=2_000,
    pending_many=50_000,
    due=2_000,
)
