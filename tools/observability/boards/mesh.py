"""The services: health, calls, and what each of them does."""

from tools.observability.boards.model import Board, Panel, Row, quantiles

MESH = Board(
    "mesh",
    "The mesh",
    since="now-1h",
    refresh="15s",
    rows=(
        Row(
            "Health",
            (
                Panel(
                    "Replicas that can serve",
                    (("sum by (service) (seckill_ready)", "{{service}}"),),
                ),
                Panel(
                    "Checks that fail",
                    (("sum by (check) (seckill_health_check_failed)", "{{check}}"),),
                    meaning="What keeps replicas from being ready.",
                ),
                Panel(
                    "Open circuit breakers",
                    (("sum by (service) (seckill_breaker_open)", "{{service}}"),),
                ),
                Panel(
                    "Cores in use",
                    (
                        (
                            "sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))",
                            "{{job}}",
                        ),
                    ),
                ),
                Panel(
                    "Memory",
                    (("sum by (job) (process_resident_memory_bytes)", "{{job}}"),),
                    unit="bytes",
                ),
                Panel(
                    "Hidden, fenced, halted",
                    (
                        ("max(seckill_store_fenced)", "fenced: Redis may not promise units"),
                        ("max(seckill_inventory_halted)", "kill switch"),
                        ("max(seckill_lost_sales_count)", "lost sales"),
                    ),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                Panel(
                    "Calls a second",
                    (
                        (
                            (
                                "sum by (grpc_service, grpc_method)"
                                " (rate(grpc_server_handled_total[$__rate_interval]))"
                            ),
                            "{{grpc_service}}/{{grpc_method}}",
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    "Calls that did not end well, a second",
                    (
                        (
                            (
                                "sum by (grpc_service, grpc_code) (rate(grpc_server_handled_total"
                                '{grpc_code!="OK"}[$__rate_interval]))'
                            ),
                            "{{grpc_service}} {{grpc_code}}",
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    "Took, p99",
                    (
                        (
                            (
                                "histogram_quantile(0.99, sum by (le, grpc_service, grpc_method)"
                                " (rate(grpc_server_handling_seconds_bucket[$__rate_interval])))"
                            ),
                            "{{grpc_service}}/{{grpc_method}}",
                        ),
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Gateways",
            (
                Panel(
                    "Predicted wait",
                    (
                        (
                            "max by (instance) (seckill_gateway_predicted_wait_seconds)",
                            "{{instance}}",
                        ),
                    ),
                    unit="s",
                    meaning="Of a call that arrives now; beyond its deadline it is shed.",
                ),
                Panel(
                    "Connections and calls in flight",
                    (
                        ("sum(seckill_gateway_connections_count)", "connections"),
                        ("sum(seckill_gateway_calls_in_flight_count)", "calls in flight"),
                    ),
                ),
                Panel(
                    "Calls in one call to another service, mean",
                    (
                        (
                            (
                                "sum by (service)"
                                " (rate(seckill_gateway_batch_items_sum[$__rate_interval]))"
                                " / sum by (service)"
                                " (rate(seckill_gateway_batch_items_count[$__rate_interval]))"
                            ),
                            "{{service}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Orders",
            (
                Panel(
                    "Database connections in use",
                    (
                        (
                            (
                                "sum(rate(seckill_database_connection_hold_seconds_sum"
                                "[$__rate_interval]))"
                            ),
                            "in use",
                        ),
                    ),
                    meaning="Of all order replicas together.",
                ),
                Panel(
                    "A connection was held",
                    quantiles("seckill_database_connection_hold_seconds"),
                    unit="s",
                ),
                Panel(
                    "A connection was waited for",
                    quantiles("seckill_database_connection_wait_seconds"),
                    unit="s",
                ),
                Panel(
                    "Reservations written in one transaction, mean",
                    (
                        (
                            (
                                "sum(rate(seckill_order_batch_messages_sum[$__rate_interval]))"
                                " / sum(rate(seckill_order_batch_messages_count[$__rate_interval]))"
                            ),
                            "reservations",
                        ),
                    ),
                ),
                Panel(
                    "Projection: wrong about orders, for how long",
                    (
                        ("max(seckill_projection_outdated_orders)", "orders"),
                        ("max(seckill_projection_outdated_age_seconds)", "seconds"),
                    ),
                    meaning="Above 0 while Redis takes no writes; the database answers meanwhile.",
                ),
                Panel(
                    "Dead letters an hour",
                    (
                        (
                            (
                                "sum(increase(seckill_dead_letters_total[1h]))"
                                " + sum(increase(seckill_relay_dead_letters_total[1h]))"
                            ),
                            "of Kafka",
                        ),
                        ("sum(seckill_webhook_dead_letters) or vector(0)", "open, of webhooks"),
                    ),
                ),
                Panel(
                    "Webhooks that wait",
                    (
                        (
                            "max by (endpoint) (seckill_webhook_waiting) or vector(0)",
                            "{{endpoint}}",
                        ),
                        (
                            "max by (endpoint) (seckill_webhook_oldest_age_seconds) or vector(0)",
                            "{{endpoint}}, seconds",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Rollback",
            (
                Panel(
                    "Units returned a second",
                    (
                        (
                            "sum(rate(seckill_rollback_restored_units_total[$__rate_interval]))",
                            "units",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "The delay set",
                    (
                        ("max(seckill_delay_orders)", "all"),
                        ("max(seckill_delay_due_orders)", "due"),
                    ),
                ),
                Panel(
                    "A round took",
                    quantiles("seckill_rollback_round_seconds"),
                    unit="s",
                ),
                Panel(
                    "Findings that stay",
                    (
                        (
                            "max by (kind) (seckill_reconcile_unrepaired_findings)",
                            "{{kind}}",
                        ),
                    ),
                ),
                Panel(
                    "Drift, units",
                    (
                        (
                            "max by (direction) (seckill_reconcile_drift_units)",
                            "{{direction}}",
                        ),
                    ),
                ),
                Panel(
                    "Repairs an hour",
                    (
                        (
                            "sum by (kind) (increase(seckill_reconcile_repairs_total[1h]))",
                            "{{kind}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
