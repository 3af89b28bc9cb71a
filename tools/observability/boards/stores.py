"""Redis, Postgres and Kafka, as the mesh and their own exporters see them."""

from tools.observability.boards.model import Board, Panel, Row

STORES = Board(
    "stores",
    "The stores",
    since="now-1h",
    refresh="15s",
    rows=(
        Row(
            "As the mesh sees them",
            (
                Panel(
                    "Unsafe settings",
                    (("max by (store) (seckill_store_unsafe_settings)", "{{store}}"),),
                    meaning="With which a store may lose what it has acknowledged.",
                ),
                Panel(
                    "Relay: failed writes a second",
                    (
                        (
                            "sum by (store) (rate(seckill_relay_failures_total[$__rate_interval]))",
                            "{{store}}",
                        ),
                    ),
                ),
                Panel(
                    "Reservations that replicas did not confirm, a second",
                    (
                        (
                            "sum(rate(seckill_reserve_unconfirmed_batches_total[$__rate_interval]))",
                            "batches",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Redis",
            (
                Panel("Up", (("redis_up", "{{instance}}"),)),
                Panel(
                    "Memory",
                    (
                        ("redis_memory_used_bytes", "{{instance}} used"),
                        ("redis_memory_max_bytes", "{{instance}} most"),
                    ),
                    unit="bytes",
                ),
                Panel(
                    "Commands a second",
                    (("rate(redis_commands_processed_total[$__rate_interval])", "{{instance}}"),),
                    unit="ops",
                ),
                Panel(
                    "Evicted keys a second",
                    (("rate(redis_evicted_keys_total[$__rate_interval])", "{{instance}}"),),
                    meaning="Must be 0.",
                ),
                Panel("Clients", (("redis_connected_clients", "{{instance}}"),)),
                Panel("Replicas", (("redis_connected_slaves", "{{instance}}"),)),
            ),
        ),
        Row(
            "Postgres",
            (
                Panel("Up", (("pg_up", "{{instance}}"),)),
                Panel(
                    "Transactions a second",
                    (
                        (
                            (
                                "sum by (datname)"
                                " (rate(pg_stat_database_xact_commit[$__rate_interval]))"
                            ),
                            "{{datname}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Sessions",
                    (
                        (
                            "sum by (state) (pg_stat_activity_count)",
                            "{{state}}",
                        ),
                    ),
                ),
                Panel(
                    "Deadlocks a second",
                    (
                        (
                            "sum by (datname) (rate(pg_stat_database_deadlocks[$__rate_interval]))",
                            "{{datname}}",
                        ),
                    ),
                ),
                Panel(
                    "Size",
                    (("pg_database_size_bytes", "{{datname}}"),),
                    unit="bytes",
                ),
            ),
        ),
        Row(
            "Kafka",
            (
                Panel("Brokers", (("kafka_brokers", "brokers"),)),
                Panel(
                    "Messages written a second",
                    (
                        (
                            (
                                "sum by (topic) (rate(kafka_topic_partition_current_offset"
                                '{topic=~"seckill.*"}[$__rate_interval]))'
                            ),
                            "{{topic}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Lag by group",
                    (
                        (
                            "sum by (consumergroup, topic) (kafka_consumergroup_lag)",
                            "{{consumergroup}} {{topic}}",
                        ),
                    ),
                ),
                Panel(
                    "Partitions that lack a replica",
                    (
                        (
                            "sum(kafka_topic_partition_under_replicated_partition)",
                            "partitions",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
