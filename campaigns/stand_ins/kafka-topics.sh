#!/opt/seckill/bin/python
"""kafka-topics.sh, as far as it is used: --create --if-not-exists, and --list."""

import argparse
import asyncio
import sys

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

TOPIC_ALREADY_EXISTS = 36


async def main(arguments: argparse.Namespace) -> None:
    """Create or list; exit with what the broker says if it cannot."""
    admin = AIOKafkaAdminClient(bootstrap_servers=arguments.bootstrap_server)
    await admin.start()
    try:
        if arguments.list:
            print("\n".join(sorted(await admin.list_topics())))
            return
        topic = NewTopic(
            arguments.topic,
            arguments.partitions,
            arguments.replication_factor,
            topic_configs=dict(setting.split("=", 1) for setting in arguments.config),
        )
        for name, code, *details in (await admin.create_topics([topic])).topic_errors:
            if code not in (0, TOPIC_ALREADY_EXISTS):
                sys.exit(f"{name}: {code} {details}")
    finally:
        await admin.close()


parser = argparse.ArgumentParser()
action = parser.add_mutually_exclusive_group(required=True)
action.add_argument("--create", action="store_true")
action.add_argument("--list", action="store_true")
parser.add_argument("--if-not-exists", action="store_true")
parser.add_argument("--bootstrap-server", required=True)
parser.add_argument("--topic")
parser.add_argument("--partitions", type=int, default=1)
parser.add_argument("--replication-factor", type=int, default=1)
parser.add_argument("--config", action="append", default=[])
asyncio.run(main(parser.parse_args()))
