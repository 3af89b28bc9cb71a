"""The three stores together: real servers started, replaced and left by their launcher."""

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import redis

from devstack import (
    KafkaServer,
    LocalSettings,
    LocalStack,
    PostgresServer,
    StackError,
    ValkeyServer,
    create_topics,
)
from tests.kits.devstack import ROOT, only_valkey, process_tree, wait_until_ended


async def test_stack_answers_tells_its_versions_and_leaves_no_process(tmp_path: Path) -> None:
    """All three stores answer their clients, and after stopping none of their processes lives."""
    stack = LocalStack(LocalSettings(directory=tmp_path))
    stores = await asyncio.to_thread(stack.start)
    try:
        processes = [one for server in stack.servers for one in process_tree(server.pid)]
        connection = await asyncpg.connect(stores.postgres_dsn)
        assert await connection.fetchval("SELECT current_database()") == "seckill"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.close()
        with redis.Redis.from_url(stores.redis_url) as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        await create_topics(stores.kafka_bootstrap, {"orders": 3})
        assert stack.components() == {
            "postgres": "PostgreSQL 18.4",
            "redis": "Valkey 9.1.2",
            "kafka": "Apache Kafka 4.3.0",
        }
    finally:
        await asyncio.to_thread(stack.stop)
    wait_until_ended(processes)


def test_children_end_when_the_launcher_is_killed(tmp_path: Path) -> None:
    """SIGKILL to the process that started the stack ends every store, and it starts again."""
    program = (
        "import sys, pathlib, signal\n"
        "from devstack import LocalSettings, LocalStack\n"
        "stack = LocalStack(LocalSettings(directory=pathlib.Path(sys.argv[1])))\n"
        "stack.start()\n"
        "print(*(server.pid for server in stack.servers), flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as launcher:
        assert launcher.stdout is not None
        main_pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert len(main_pids) == 3
        processes = [one for main_pid in main_pids for one in process_tree(main_pid)]
        launcher.kill()
    wait_until_ended(processes)
    with PostgresServer(tmp_path / "postgres") as postgres, ValkeyServer(tmp_path / "valkey"):
        assert postgres.running


def test_given_addresses_replace_the_stores(tmp_path: Path) -> None:
    """A store whose address is given is checked there and not started here."""
    with (
        ValkeyServer(tmp_path / "other-redis") as valkey,
        PostgresServer(tmp_path / "other-postgres") as postgres,
        KafkaServer(tmp_path / "other-kafka") as kafka,
    ):
        given = LocalSettings.from_env(
            {
                "SECKILL_LOCAL_DIR": str(tmp_path / "stack"),
                "SECKILL_POSTGRES_DSN": postgres.url,
                "SECKILL_REDIS_URL": valkey.url,
                "SECKILL_KAFKA_BOOTSTRAP": kafka.url,
            }
        )
        with LocalStack(given) as stack:
            assert stack.servers == ()
            assert stack.stores.redis_url == valkey.url
            assert stack.components()["redis"] == "Valkey 9.1.2"
        assert valkey.running


def test_given_address_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable to correct, not the address, which may hold a password."""
    monkeypatch.setattr("devstack.stack.EXTERNAL_TIMEOUT_S", 0.2)
    stack = LocalStack(only_valkey(tmp_path))
    with pytest.raises(StackError, match=r"SECKILL_(POSTGRES_DSN|KAFKA_BOOTSTRAP)") as caught:
        stack.start()
    assert "nobody@" not in str(caught.value)
    assert stack.valkey is not None
    assert not stack.valkey.running
