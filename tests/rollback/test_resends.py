"""Reservations are sent again a few times, ever more rarely."""

from rollback_svc.resends import Resends


def test_the_pause_doubles_until_it_is_left_to_an_operator() -> None:
    """What keeps it from becoming an order may keep it each time."""
    resends = Resends(pause_s=10.0, times_max=3)
    sent_at_s = []
    for now_s in range(0, 1_000, 5):
        if resends.is_due("sku", "order", now_s=now_s):
            resends.note("sku", ["order"], now_s=now_s)
            sent_at_s.append(now_s)
    assert sent_at_s == [0, 10, 30]


def test_what_has_become_an_order_is_forgotten() -> None:
    """So is a sale that is gone: lost again, a reservation is sent at once."""
    resends = Resends(pause_s=10.0, times_max=1)
    for sku in ("one", "two"):
        resends.note(sku, ["a", "b"], now_s=0.0)
    resends.keep("one", {"b"})
    resends.keep_sales({"one"})
    due = [
        resends.is_due(sku, number, now_s=1.0) for sku in ("one", "two") for number in ("a", "b")
    ]
    assert due == [True, False, True, True]
