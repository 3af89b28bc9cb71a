"""What operators changed of a sale, as a table."""

from collections.abc import Iterable, Iterator

from seckill.v1 import sale_pb2
from seckill_cli.display import TextTable, table
from seckill_cli.terms import show_moment, show_money


def state_name(state: "sale_pb2.SaleState.ValueType") -> str:
    """Return "open", "paused" or "closed"."""
    return sale_pb2.SaleState.Name(state).removeprefix("SALE_STATE_").lower()


def changes_table(changes: Iterable[sale_pb2.SaleChange]) -> TextTable:
    """Return a row for each change: when, by whom, what was before and is since."""
    rows = table(("changed", "by", "addition"), ("what",))
    for change in changes:
        rows.add_text(
            show_moment(change.change_time),
            change.operator or "-",
            change.addition_id or "-",
            "; ".join(_differences(change.before, change.after)),
        )
    return rows


def _differences(before: sale_pb2.SaleFacts, after: sale_pb2.SaleFacts) -> Iterator[str]:
    if after.HasField("total_units"):
        yield f"units {before.total_units} -> {after.total_units}"
    if after.HasField("title"):
        yield f"title {before.title!r} -> {after.title!r}"
    if after.HasField("unit_price"):
        yield f"price {show_money(before.unit_price)} -> {show_money(after.unit_price)}"
    if after.state:
        yield f"state {state_name(before.state)} -> {state_name(after.state)}"
    if after.HasField("start_time"):
        yield f"start {show_moment(before.start_time)} -> {show_moment(after.start_time)}"
    if after.HasField("end_time"):
        yield f"end {show_moment(before.end_time)} -> {show_moment(after.end_time)}"
