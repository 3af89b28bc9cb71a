"""`python -m bench.flow spike 500`: a sale, its crowd, and the audit, on the local stack."""

import argparse
import asyncio
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from devstack import LocalSettings, StackState
from order_svc.audit.audit import Audit, audit_sale
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill_cli.mesh import CALL_TIMEOUT_S, channel_to, local_state

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
EDGE = "edge"
# The crowd of a spike is on the page when the sale starts: locust starts, then they gather.
AHEAD_S = 20
# Units of those who do not pay come back while a tail lasts.
PAYMENT_WINDOW_S = 15
# Of ten who want one, one can have it.
BUYERS_A_UNIT = 10
PRICE_FEN = 990


def main() -> int:
    """Run; the exit status is 0 if nothing went wrong and nothing was oversold."""
    wanted = _parse(sys.argv[1:])
    state = local_state()
    edge = next((found for found in state.processes if found.name == EDGE), None) if state else None
    if state is None or edge is None:
        sys.stderr.write("error: no edge runs here; `make up` starts it\n")
        return 2
    sku = f"flow-{wanted.profile}-{uuid.uuid4().hex[:6]}"
    _create_sale(sku, wanted)
    folder = LocalSettings.from_env().directory.absolute()
    status = subprocess.run(
        _locust(sku, wanted, host=f"http://{edge.address}", folder=folder), check=False
    ).returncode
    wrong = asyncio.run(_audit(state, sku))
    return 1 if wrong else status


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.flow",
        description=__doc__,
        epilog="what stands after -- are options of locust and of the flow (locustfile.py)",
    )
    profiles = parser.add_subparsers(dest="profile", required=True)
    spike = profiles.add_parser("spike", help="all purchase within 1.5 s")
    spike.add_argument("size", type=int, metavar="BUYERS")
    tail = profiles.add_parser("tail", help="humans arrive at a constant rate")
    tail.add_argument("size", type=float, metavar="RATE", help="humans a second")
    tail.add_argument("--seconds", type=int, default=60)
    for profile in (spike, tail):
        profile.add_argument("--units", type=int, default=0, help="default: one for ten buyers")
        profile.add_argument("--workers", type=int, default=0, help="processes of locust; 0: one")
    at = arguments.index("--") if "--" in arguments else len(arguments)
    wanted = parser.parse_args(arguments[:at])
    wanted.further = arguments[at + 1 :]
    if wanted.size <= 0:
        parser.error("the number must be positive")
    return wanted


def _create_sale(sku: str, wanted: argparse.Namespace) -> None:
    spike = wanted.profile == "spike"
    visits = wanted.size if spike else wanted.size * wanted.seconds
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title=f"{wanted.profile} {wanted.size:g}",
        total_units=wanted.units or max(1, int(visits / BUYERS_A_UNIT)),
        unit_price=sale_pb2.Money(currency="CNY", minor_units=PRICE_FEN),
    )
    starts = datetime.now(UTC) + timedelta(seconds=AHEAD_S if spike else 0)
    terms.start_time.FromDatetime(starts)
    terms.end_time.FromDatetime(starts + timedelta(hours=1))
    terms.payment_window.FromTimedelta(timedelta(seconds=PAYMENT_WINDOW_S))
    with channel_to("inventory", "") as channel:
        inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S
        )


def _locust(sku: str, wanted: argparse.Namespace, *, host: str, folder: Path) -> list[str]:
    results = folder / "flow"
    results.mkdir(parents=True, exist_ok=True)
    size = (
        ["--buyers", str(wanted.size)]
        if wanted.profile == "spike"
        else ["--rate", str(wanted.size), "--seconds", str(wanted.seconds)]
    )
    return [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"),
        *("--host", host, "--sku", sku, *size, "--secrets", str(folder / "secrets")),
        *("--html", str(results / f"{sku}.html"), "--outcomes", str(results / f"{sku}.json")),
        *(("--processes", str(wanted.workers)) if wanted.workers else ()),
        *wanted.further,
    ]


async def _audit(state: StackState, sku: str) -> bool:
    """Whether the ledger shows anything wrong; says what it shows."""
    found: Audit = await audit_sale(state.stores.postgres_dsn, sku)
    if found.wrong is None:
        print(f"\naudit of {sku}: {found.sold} of {found.total} units sold, never oversold")
    else:
        print(f"\naudit of {sku}: WRONG: {found.wrong}")
    return found.wrong is not None


if __name__ == "__main__":
    sys.exit(main())
