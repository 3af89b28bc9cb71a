"""One sale: when it was sold out, what was shed, what came back."""

from tools.observability.boards.model import Board, Panel, Row, quantiles

PURCHASE = 'grpc_service="seckill.v1.GatewayService", grpc_method="Purchase"'
FAULTS = "Internal|Unknown|Unavailable|DeadlineExceeded|DataLoss|Unimplemented"


def _of_sale(metric: str) -> str:
    return f'max by (sku) ({metric}{{sku=~"$sku"}})'


def _number(title: str, query: str, meaning: str, unit: str = "short") -> Panel:
    return Panel(title, ((query, "{{sku}}"),), unit, meaning, kind="stat", width=4)


SALE = Board(
    "sale",
    "One sale",
    by_sale=True,
    rows=(
        Row(
            "Now",
            (
                _number("Left", _of_sale("seckill_sale_remaining_units"), "0: sold out."),
                _number(
                    "To be paid",
                    'max by (sku) (seckill_sale_order_units{sku=~"$sku", state="pending"})',
                    "Units of orders that await payment.",
                ),
                _number(
                    "Paid",
                    'max by (sku) (seckill_sale_order_units{sku=~"$sku", state="paid"})',
                    "Units of paid orders.",
                ),
                _number(
                    "Came back",
                    _of_sale("seckill_sale_restored_units"),
                    "Units of ended orders that are, or were, on sale again.",
                ),
                _number("Oversold", _of_sale("seckill_sale_oversold_units"), "Must be 0."),
                _number(
                    "Drift",
                    f"{_of_sale('seckill_sale_drift_units')} or"
                    f" 0 * {_of_sale('seckill_sale_total_units')}",
                    "Units that Redis has too many; negative: withholds. Compared every minute.",
                ),
            ),
        ),
        Row(
            "When it was sold out, and what came back",
            (
                Panel(
                    "Where the units are",
                    (
                        (_of_sale("seckill_sale_remaining_units"), "left"),
                        (
                            "clamp_min("
                            + _of_sale("seckill_sale_held_units")
                            + " - on (sku) sum by (sku) (max by (sku, state)"
                            ' (seckill_sale_order_units{sku=~"$sku", state=~"pending|paid"})), 0)',
                            "held, no order yet",
                        ),
                        (
                            'max by (sku) (seckill_sale_order_units{sku=~"$sku", state="pending"})',
                            "to be paid",
                        ),
                        (
                            'max by (sku) (seckill_sale_order_units{sku=~"$sku", state="paid"})',
                            "paid",
                        ),
                        (_of_sale("seckill_sale_returning_units"), "coming back"),
                    ),
                    meaning="Left falls to 0: sold out. It rises again: units came back.",
                    width=12,
                ),
                Panel(
                    "Attempts a second, by outcome",
                    (
                        (
                            "sum by (outcome) (rate(seckill_attempts_total[$__rate_interval]))",
                            "{{outcome}}",
                        ),
                    ),
                    unit="reqps",
                    meaning="Of all sales: attempts have no label for it.",
                    width=12,
                ),
            ),
        ),
        Row(
            "What buyers felt",
            (
                Panel(
                    "What was shed",
                    (
                        (
                            (
                                f"sum(rate(grpc_server_handled_total{{{PURCHASE},"
                                ' grpc_code="ResourceExhausted"}[$__rate_interval]))'
                            ),
                            "refused unheard by gateways",
                        ),
                        (
                            (
                                "sum by (bucket)"
                                " (rate(seckill_limiter_refusals_total[$__rate_interval]))"
                            ),
                            "bucket {{bucket}}",
                        ),
                        (
                            "sum(rate(seckill_gateway_admission_full_total[$__rate_interval]))",
                            "enough others in flight",
                        ),
                    ),
                    unit="reqps",
                    meaning="Overload, limits, and attempts beyond what remains.",
                ),
                Panel(
                    "Share shed by the edge",
                    (("max(seckill_edge_shed_share) or vector(0)", "share"),),
                    unit="percentunit",
                    meaning="Purchases that Envoy refuses by itself, so that gateways can breathe.",
                ),
                Panel(
                    "Attempts that failed",
                    (
                        (
                            (
                                f"sum by (grpc_code) (rate(grpc_server_handled_total{{{PURCHASE},"
                                f' grpc_code=~"{FAULTS}"}}[$__rate_interval]))'
                            ),
                            "{{grpc_code}}",
                        ),
                    ),
                    unit="reqps",
                    meaning="The error budget of a sale is one in a thousand.",
                ),
                Panel(
                    "A purchase took",
                    quantiles("grpc_server_handling_seconds", f"{{{PURCHASE}}}"),
                    unit="s",
                    meaning="In the gateway, until it was answered.",
                ),
                Panel(
                    "Refused by gateways alone",
                    (
                        (
                            (
                                "sum by (outcome)"
                                " (rate(seckill_local_refusals_total[$__rate_interval]))"
                            ),
                            "{{outcome}}",
                        ),
                    ),
                    unit="reqps",
                    meaning="Answered without asking inventory: nothing was to be had.",
                ),
                Panel(
                    "Purchase tokens by risk",
                    (
                        (
                            (
                                "sum by (tier)"
                                " (rate(seckill_risk_decisions_total[$__rate_interval]))"
                                " or vector(0)"
                            ),
                            "{{tier}}",
                        ),
                    ),
                    unit="reqps",
                    meaning="Passed, challenged or refused.",
                ),
            ),
        ),
        Row(
            "From the hold to the order and back",
            (
                Panel(
                    "On its way",
                    (
                        ("max(seckill_outbox_depth)", "to Kafka"),
                        ("sum(seckill_consumer_lag_messages)", "to Postgres"),
                        ("max(seckill_delay_due_orders)", "due to come back"),
                    ),
                    meaning="Reservations, reservation events, orders.",
                ),
                Panel(
                    "For how long",
                    (
                        ("max(seckill_outbox_oldest_age_seconds)", "to Kafka"),
                        ("max(seckill_consumer_lag_seconds)", "to Postgres, at most"),
                        ("max(seckill_order_events_age_seconds)", "events to Kafka"),
                    ),
                    unit="s",
                ),
                Panel(
                    "Orders a second, by the state reached",
                    (
                        (
                            (
                                "sum by (state)"
                                " (rate(seckill_order_transitions_total[$__rate_interval]))"
                            ),
                            "{{state}}",
                        ),
                    ),
                    unit="ops",
                ),
            ),
        ),
    ),
)
