"""The humans of bench/flow: the paths they call, and what becomes of them."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from random import Random
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from bench.flow import identities
from bench.flow.json_form import (
    OK,
    PATHS,
    SERVICE,
    JsonRequest,
    request_of,
    response_of,
    status_of,
)
from bench.flow.table import figures, lines
from bench.flow.tally import Ending, Span, Tally
from bench.flow.visit import Habits, Visit
from seckill.client import flows
from seckill.client.errors import DETAILS_KEY, call_failed
from seckill.errors import REQUEST_CHANGES
from seckill.v1 import gateway_pb2, inventory_pb2

STARTS_S = 1_800_000_000.0
ORDER = {
    "orderNo": "0" * 26,
    "state": "ORDER_STATE_PENDING",
    "amount": {"currency": "CNY", "minorUnits": "990"},
}
PAID = {**ORDER, "state": "ORDER_STATE_PAID"}


@dataclass(frozen=True)
class Answer:
    """An answer of the edge: HTTP status, and the object in its body."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)


RESERVED = Answer(200, {"outcome": "PURCHASE_OUTCOME_RESERVED", "orderNo": "0" * 26})
SOLD_OUT = Answer(200, {"outcome": "PURCHASE_OUTCOME_SOLD_OUT", "orderNo": ""})
Script = Callable[[], Iterator[Answer]]


def always(*answers: Answer) -> Script:
    """Return a script of these answers, the last one repeated for ever."""

    def play() -> Iterator[Answer]:
        yield from answers
        while True:
            yield answers[-1]

    return play


def refusal(status: int, reason: str, retry: str = "") -> Answer:
    """Return an error as the edge words it."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    if retry:
        details.append(
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry},
        )
    return Answer(status, {"details": details})


YOUNG = refusal(404, "ORDER_NOT_FOUND", retry="0.5s")


class ScriptedShop:
    """Answers each method by its script, and keeps the requests."""

    def __init__(self, **scripts: Script) -> None:
        usual = {
            "GetSale": always(
                Answer(200, {"sale": {"terms": {"startTime": "2027-01-15T08:00:00Z"}}})
            ),
            "IssuePurchaseToken": always(Answer(200, {"purchaseToken": "token"})),
            "Purchase": always(RESERVED),
            "GetOrder": always(YOUNG, Answer(200, {"order": ORDER})),
            "PayOrder": always(Answer(200, {"order": PAID})),
        }
        self._scripts = {rpc: script() for rpc, script in {**usual, **scripts}.items()}
        self.sent: list[tuple[str, JsonRequest]] = []

    def perform(self, step: flows.Ask) -> Message:
        """See Shop.perform."""
        self.sent.append((step.method, request_of(step.method, step.request)))
        answer = next(self._scripts[step.method])
        body = json.dumps(answer.body).encode()
        if answer.status == OK:
            return response_of(step.method, body)
        code, details = status_of(answer.status, body)
        raise call_failed(code, details.message, {DETAILS_KEY: details.SerializeToString()})


class Watch:
    """A clock that sleeping moves."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def sleep(self, seconds: float) -> None:
        """Take no time."""
        self.now_s += seconds


def visit(
    shop: ScriptedShop, *, pays: bool = True, twice: bool = False, at_s: float = STARTS_S
) -> tuple[Ending, Tally, Watch]:
    """One visit to the sale that starts at STARTS_S."""
    watch, tally = Watch(at_s), Tally()
    habits = Habits(pay_ratio=float(pays), twice_ratio=float(twice))
    ending = Visit(
        shop,
        sku="phone",
        habits=habits,
        tally=tally,
        random=Random(1),
        sleep=watch.sleep,
        clock=lambda: watch.now_s,
    ).run()
    return ending, tally, watch


def test_paths_are_those_of_the_contract() -> None:
    """Verb and path of each method's google.api.http."""
    for path in PATHS.values():
        rule = SERVICE.methods_by_name[path.rpc].GetOptions().Extensions[annotations_pb2.http]
        assert (path.verb.lower(), path.template) == (
            rule.WhichOneof("pattern"),
            getattr(rule, str(rule.WhichOneof("pattern"))),
        )
        assert path.variable in {"sku", "orderNo"}
    purchase = gateway_pb2.PurchaseRequest(sku="phone", quantity=2, request_id="r")
    assert request_of("Purchase", purchase) == JsonRequest(
        "POST", "/v1/sales/phone:purchase", {"quantity": 2, "requestId": "r"}
    )


def test_every_outcome_of_a_purchase_has_its_ending() -> None:
    """But for the one that goes on, and those that the gateway answers with a status."""
    outcomes = inventory_pb2.PurchaseOutcome.items()
    told = (name for name, number in outcomes if number not in REQUEST_CHANGES)
    names = {name.removeprefix("PURCHASE_OUTCOME_") for name in told}
    assert names - {"UNSPECIFIED", "RESERVED"} <= set(Ending.__members__)


def test_a_human_waits_purchases_polls_and_pays() -> None:
    """A visit makes its calls in order, with the contract's fields, soon after the start."""
    shop = ScriptedShop()
    ending, tally, watch = visit(shop, at_s=STARTS_S - 30)
    assert ending is Ending.PAID
    assert [rpc for rpc, _ in shop.sent] == [
        "GetSale",
        "IssuePurchaseToken",
        "Purchase",
        "GetOrder",
        "GetOrder",
        "PayOrder",
    ]
    bodies = {rpc: dict(request.body) for rpc, request in shop.sent if request.body}
    # The path names the sku and the order; a body that did so too would be refused.
    assert set(bodies["Purchase"]) == {"quantity", "purchaseToken", "requestId"}
    assert set(bodies["PayOrder"]) == {"paymentId", "amount"}
    assert ParseDict(bodies["Purchase"], gateway_pb2.PurchaseRequest()).request_id
    assert ParseDict(bodies["PayOrder"], gateway_pb2.GatewayServicePayOrderRequest()).payment_id
    assert 0 <= tally.first_sent_s - STARTS_S <= Habits().within_s
    assert watch.now_s - STARTS_S < 10
    assert all(tally.spans_ms[span].total() == 1 for span in Span)


@pytest.mark.parametrize(
    ("scripts", "ending"),
    [
        ({"Purchase": always(SOLD_OUT)}, Ending.SOLD_OUT),
        ({"Purchase": always(refusal(503, "DEPENDENCY_UNAVAILABLE"))}, Ending.TURNED_AWAY),
        ({"Purchase": always(refusal(403, "PURCHASE_TOKEN_FOREIGN"))}, Ending.FAILED),
        ({"IssuePurchaseToken": always(refusal(401, "IDENTITY_INVALID"))}, Ending.FAILED),
        ({"IssuePurchaseToken": always(Answer(200, {"purchaseToken": 5}))}, Ending.FAILED),
        ({"GetOrder": always(YOUNG)}, Ending.UNSEEN),
        ({"GetOrder": always(refusal(404, "ORDER_NOT_FOUND"))}, Ending.UNSEEN),
        (
            {"GetOrder": always(Answer(200, {"order": {"state": "ORDER_STATE_REJECTED"}}))},
            Ending.REJECTED,
        ),
        ({"PayOrder": always(refusal(400, "PAYMENT_TOO_LATE"))}, Ending.CANCELLED),
        ({"PayOrder": always(refusal(400, "PAYMENT_MISMATCH"))}, Ending.FAILED),
    ],
)
def test_visits_end_by_name(scripts: dict[str, Script], ending: Ending) -> None:
    """Each with the shop that brings it about."""
    told, tally, _ = visit(ScriptedShop(**scripts))
    assert told is ending
    assert tally.endings == {ending: 1}


def test_who_is_turned_away_repeats_with_the_same_request_id() -> None:
    """A refused purchase is repeated no sooner than told, and with a new token if one expired."""
    shop = ScriptedShop(
        Purchase=always(
            refusal(429, "RATE_LIMITED", retry="2s"),
            Answer(0),
            refusal(403, "PURCHASE_TOKEN_EXPIRED"),
            RESERVED,
        )
    )
    ending, tally, watch = visit(shop)
    assert ending is Ending.PAID
    bodies = [request.body or {} for rpc, request in shop.sent if rpc == "Purchase"]
    assert len({body["requestId"] for body in bodies}) == 1
    assert [rpc for rpc, _ in shop.sent].count("IssuePurchaseToken") == 2
    assert watch.now_s - STARTS_S > 2
    assert not tally.faults


def test_two_answers_to_one_request_id_are_a_broken_promise() -> None:
    """The same answer twice is none."""
    ending, tally, _ = visit(ScriptedShop(), twice=True)
    assert (ending, tally.faults) == (Ending.PAID, 0)
    for other in (SOLD_OUT, Answer(200, {**RESERVED.body, "orderNo": "1" * 26})):
        shop = ScriptedShop(Purchase=always(RESERVED, other), GetOrder=always(YOUNG))
        assert sum(visit(shop, twice=True)[1].broken.values()) == 1


def test_counts_of_processes_add_up() -> None:
    """Sent as plain data, merged, and shown by name."""
    _, one, _ = visit(ScriptedShop())
    _, two, _ = visit(ScriptedShop(Purchase=always(SOLD_OUT)), at_s=STARTS_S + 1)
    merged = Tally()
    for tally in (one, two):
        merged.add(Tally.unpack(tally.pack()))
        tally.clear()
        assert tally == Tally()
    told = figures(merged)
    assert (told["visits"], told["faults"], told["purchased_within_s"]) == (2, 0, 1.0)
    assert told["endings"]["paid"] == told["endings"]["sold out"] == 1
    assert "paid                              1" in lines(merged)


def test_a_file_of_identities_is_shared_without_overlap(tmp_path: FilePath) -> None:
    """Each process sends its own lines; one that is too many is told."""
    path = tmp_path / "jwts"
    path.write_text("a\nb\nc\nd\ne\n")
    shares = [list(identities.read(path, share=share, shares=2)) for share in range(2)]
    assert shares == [["a", "c", "e"], ["b", "d"]]
    with pytest.raises(ValueError, match="--expect-workers"):
        identities.read(path, share=2, shares=2)
    first, second = (next(identities.minted(tmp_path / "secrets")) for _ in range(2))
    assert first != second
