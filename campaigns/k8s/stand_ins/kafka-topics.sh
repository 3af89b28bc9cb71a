#!/opt/seckill/bin/python
"""kafka-topics.sh, as far as the trial's Job uses it: --create --if-not-exists."""

import argparse
import asyncio
import sys

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

TOPIC_ALREADY_EXISTS = 36


async def create(arguments: argparse.Namespace) -> None:
    """Create one topic; exit with what the broker says if it cannot."""
    topic = NewTopic(
        arguments.topic,
        arguments.partitions,
        arguments.replication_factor,
        topic_configs=dict(setting.split("=", 1) for setting in arguments.config),
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=arguments.bootstrap_server)
    await admin.start()
    try:
        for name, code, *details in (await admin.create_topics([topic])).topic_errors:
            if code not in (0, TOPIC_ALREADY_EXISTS):
                sys.exit(f"{name}: {code} {details}")
    finally:
        await admin.close()


parser = argparse.ArgumentParser()
parser.add_argument("--create", action="store_true", required=True)
parser.add_argument("--if-not-exists", action="store_true", required=True)
parser.add_argument("--bootstrap-server", required=True)
parser.add_argument("--topic", required=True)
parser.add_argument("--partitions", type=int, required=True)
parser.add_argument("--replication-factor", type=int, required=True)
parser.add_argument("--config", action="append", default=[])
asyncio.run(create(parser.parse_args()))
