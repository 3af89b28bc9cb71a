"""What `seckill top` makes of its samples."""

import io
from collections import deque

import pytest
from rich.console import Console

from seckill.v1 import order_pb2, sale_pb2
from seckill_cli.top.exposition import GATEWAY, Exported, parse, read, summarize
from seckill_cli.top.picture import draw
from seckill_cli.top.sampler import Sample
from seckill_cli.top.series import rates, recorded, sparkline
from tests.kits.factories import sale_terms

NOTHING = summarize(())
PURCHASE = f'grpc_service="{GATEWAY}",grpc_method="Purchase"'
TEXT = f"""
seckill_attempts_total{{outcome="reserved"}} 7.0
seckill_attempts_total{{outcome="sold_out"}} 100.0
grpc_server_handled_total{{{PURCHASE},grpc_code="OK"}} 107.0
grpc_server_handled_total{{{PURCHASE},grpc_code="Internal"}} 2.0
grpc_server_handled_total{{grpc_service="x",grpc_method="Purchase",grpc_code="Internal"}} 9.0
seckill_outbox_depth 5.0
seckill_consumer_lag_messages 3.0
"""


def sample(at_s: float, *, left: int = 10, paid: int = 0, exported: Exported = NOTHING) -> Sample:
    """A sample of a sale of ten units."""
    terms = sale_terms(units=10)
    return Sample(
        at_s=at_s,
        sale=sale_pb2.Sale(
            terms=terms,
            state=sale_pb2.SALE_STATE_OPEN,
            remaining_units=left,
            sold_out=left == 0,
            loaded=True,
        ),
        totals=order_pb2.GetSaleTotalsResponse(
            total_units=10, sold_units=10 - left, paid_units=paid, pending_units=10 - left - paid
        ),
        exported=exported,
    )


def shown(*samples: Sample, sku: str = "phone") -> str:
    """Return what a terminal shows."""
    console = Console(file=io.StringIO(), width=100, markup=False)
    console.print(draw(sku, deque(samples)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_replicas_are_added_up_where_each_has_its_share() -> None:
    """Attempts and lag are shared; the outbox and the delay set each replica sees as a whole."""
    found = summarize([*parse(TEXT), *parse(TEXT)])
    assert found.outcomes == {"reserved": 14, "sold_out": 200}
    assert (found.faults, found.shed) == (4, 0)
    assert (found.outbox, found.lag) == (5, 6)


def test_a_service_that_does_not_answer_is_named() -> None:
    """What others export is shown all the same."""
    addresses = ["127.0.0.1:1", "ftp://no", "a\nb"]
    found = read(addresses)
    assert [silent.partition(": ")[0] for silent in found.silent] == addresses


@pytest.mark.parametrize(
    ("values", "bars"),
    [((), ""), ((0, 0), "▁▁"), ((0, 5, 10), "▁▅█"), ((-3, 10), "▁█"), ((1, 2, 3, 4), "▆█")],
)
def test_sparklines_reach_from_nothing_to_the_highest(values: tuple[float, ...], bars: str) -> None:
    """Only the latest values, if there are too many."""
    assert sparkline(values, width=3 if len(values) < 4 else 2) == bars


def test_rates_are_those_between_samples() -> None:
    """A gateway that was restarted meanwhile counts from 0."""
    first = sample(0.0, exported=summarize(parse(TEXT)))
    again = summarize(parse(TEXT.replace("100.0", "140.0").replace(" 7.0", " 2.0")))
    (found,) = rates([first, sample(2.0, exported=again)])
    assert (found["sold_out"], found["reserved"], found["failed"]) == (20.0, 1.0, 0.0)


def test_the_picture_shows_units_attempts_and_what_is_on_its_way() -> None:
    """At a look: sold out, attempts by what became of them, what waits."""
    first = sample(0.0, exported=summarize(parse(TEXT)))
    later = TEXT.replace("100.0", "300.0")
    seen = shown(first, sample(1.0, left=0, paid=4, exported=summarize(parse(later))))
    assert "phone · sold out" in seen
    assert "0 of 10" in seen
    assert "200" in next(line for line in seen.splitlines() if "sold out  " in line)
    assert "4" in next(line for line in seen.splitlines() if "│ paid" in line)
    assert "5" in next(line for line in seen.splitlines() if "to Kafka" in line)


def test_without_metrics_it_says_what_to_give() -> None:
    """Units are shown all the same."""
    assert "give --metrics" in shown(sample(0.0), sample(1.0))


def test_text_from_outside_is_text() -> None:
    """A sku in the title, a service's words in a problem."""
    one = sample(0.0)
    problem = Sample(
        at_s=1.0, sale=None, totals=None, exported=NOTHING, problems=("order: [red]\x1b[2J",)
    )
    seen = shown(one, problem, sku="[bold]x")
    assert "[bold]x" in seen
    assert r"[red]\x1b[2J" in seen
    assert "\x1b" not in seen


def test_a_record_has_a_row_for_each_sample() -> None:
    """A service that was away is as it was before."""
    gap = Sample(at_s=1.0, sale=None, totals=None, exported=NOTHING)
    rows = recorded([sample(0.0, left=6), gap, sample(2.5, left=5)])
    assert [(row["seconds"], row["remaining"]) for row in rows] == [(0.0, 6), (1.0, 6), (2.5, 5)]
    assert "sold_out_per_s" in rows[1]
