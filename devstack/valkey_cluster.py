"""A cluster of Valkey: masters that share the slots, and replicas of each."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import redis

from devstack.deadline import Deadline, drive
from devstack.errors import StackError
from devstack.ports import LOOPBACK, pick_free_port
from devstack.valkey import ValkeyServer

SLOTS = 16_384
FORM_TIMEOUT_S = 30.0
# After so long without an answer a master is taken for dead, and a replica is elected.
NODE_TIMEOUT_MS = 2_000
# A node of a stack that has died is started again after this: longer than a failover takes.
RESTART_AFTER_S = 5.0


class ClusterNode(ValkeyServer):
    """One node: a Valkey with cluster mode on, which knows no other node yet."""

    def __init__(
        self,
        directory: Path,
        *,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings`: further lines of its configuration."""
        super().__init__(directory)
        self._node_timeout_ms = node_timeout_ms
        self._further = settings or {}
        self._bus_port = 0

    @property
    def address(self) -> str:
        """host:port, by which other nodes and clients know it."""
        return f"{LOOPBACK}:{self.port}"

    def client(self) -> "redis.Redis":
        """Return a client of this node alone."""
        return redis.Redis(host=LOOPBACK, port=self.port, socket_timeout=5.0)

    def _settings(self) -> dict[str, str]:
        # Not 10,000 above the port: free ports may be too high for that.
        self._bus_port = self._bus_port or pick_free_port()
        return {
            **super()._settings(),
            "cluster-enabled": "yes",
            "cluster-port": str(self._bus_port),
            "cluster-announce-ip": LOOPBACK,
            "cluster-node-timeout": str(self._node_timeout_ms),
            # A shard that is down takes no other one with it.
            "cluster-require-full-coverage": "no",
            # Nor a shard's last replica to another one.
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": "0",
            # Nor does a node that is told to stop wait for replicas that stop as well.
            "shutdown-timeout": "0",
            **self._further,
        }


class ValkeyCluster:
    """Masters and replicas on loopback, started and stopped together."""

    def __init__(
        self,
        directory: Path,
        *,
        shards: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it; nothing is started.

        Args:
            directory: of the nodes' directories.
            replicas: of each master.
            settings: further lines of each node's configuration.
        """
        self.directory = directory.absolute()
        # Before it serves, and unless it fails over: the masters first, then replica after replica.
        self.nodes = [
            ClusterNode(
                self.directory / f"node-{number}",
                node_timeout_ms=node_timeout_ms,
                settings=settings,
            )
            for number in range(shards * (1 + replicas))
        ]
        self._shards = shards
        # Monotonic time at which a node was seen dead, by its address.
        self._died_s: dict[str, float] = {}

    @property
    def url(self) -> str:
        """redis:// address that names the nodes that were masters at first."""
        return "redis://" + ",".join(node.address for node in self.nodes[: self._shards])

    @property
    def running(self) -> bool:
        """Whether a node lives."""
        return any(node.running for node in self.nodes)

    def start(self) -> str:
        """Start all nodes, make a cluster of them unless they are one, and return its address.

        Raises:
            StackError: a node cannot be started, or they do not find each other.
        """
        try:
            drive([self.bring_up()])
        except BaseException:
            self.stop()
            raise
        return self.url

    def bring_up(self) -> Iterator[None]:
        """Start it as a generator that yields while it waits."""
        for node in self.nodes:
            yield from node.bring_up()
        if all(facts_of(node).get("cluster_known_nodes") == "1" for node in self.nodes):
            yield from self._form()
        else:
            # It was made before; its nodes may have other ports now.
            self._meet()
            yield from _until(self._is_whole)

    def stop(self) -> None:
        """Stop all nodes."""
        for node in reversed(self.nodes):
            node.stop()

    def check(self) -> None:
        """Start a node again that has died by itself, once its replica has had time to follow.

        Raises:
            StackError: it cannot be started.
        """
        now_s = time.monotonic()
        for node in self.nodes:
            if node.running:
                self._died_s.pop(node.address, None)
            elif now_s - self._died_s.setdefault(node.address, now_s) > RESTART_AFTER_S:
                node.stop()
                node.start()

    def master_of(self, slot: int) -> ClusterNode:
        """Return the node that owns a slot, as the living nodes see it.

        Raises:
            StackError: none does.
        """
        for node in self.nodes:
            if not node.running:
                continue
            with node.client() as client:
                ranges: Any = client.execute_command("CLUSTER", "SLOTS")
            for first, last, master, *_ in ranges:
                if first <= slot <= last:
                    return self._at(int(master[1]))
        raise StackError(f"no node owns the slot {slot}")

    def is_followed(self, node: ClusterNode) -> bool:
        """Return whether the other nodes that run have a master for each slot, and this is none."""
        for other in self.nodes:
            if other is node or not other.running:
                continue
            with other.client() as client:
                ranges: Any = client.execute_command("CLUSTER", "SLOTS")
            if any(int(found[2][1]) == node.port for found in ranges):
                return False
        return True

    def masters(self) -> list[ClusterNode]:
        """Return the living nodes that own slots, by their first one."""
        for node in self.nodes:
            if node.running:
                with node.client() as client:
                    ranges: Any = client.execute_command("CLUSTER", "SLOTS")
                ports = [int(found[2][1]) for found in sorted(ranges, key=lambda one: int(one[0]))]
                return [self._at(port) for port in dict.fromkeys(ports)]
        raise StackError("no node of the cluster runs")

    def _at(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.port == port)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _form(self) -> Iterator[None]:
        """Share the slots out, have the nodes meet, and each replica follow its master."""
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < self._shards:
                    bounds = (SLOTS * number // self._shards, SLOTS * (number + 1) // self._shards)
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
        self._meet()
        count = str(len(self.nodes))
        yield from _until(
            lambda: all(facts_of(node).get("cluster_known_nodes") == count for node in self.nodes)
        )
        for number, node in enumerate(self.nodes[self._shards :]):
            with self.nodes[number % self._shards].client() as client:
                master_id: Any = client.execute_command("CLUSTER", "MYID")
            yield from _until(partial(_follows, node, master_id))
        yield from _until(self._is_whole)
        yield from _until(lambda: all(_is_in_step(node) for node in self.nodes[self._shards :]))

    def _meet(self) -> None:
        """Tell each node where the first one is."""
        first = self.nodes[0]
        for node in self.nodes[1:]:
            with node.client() as client:
                bus_port = first._bus_port  # noqa: SLF001 - a node of ours
                client.execute_command("CLUSTER", "MEET", LOOPBACK, first.port, bus_port)

    def _is_whole(self) -> bool:
        """Whether each node sees the cluster well, and the others where they are."""
        addresses = {node.address for node in self.nodes}
        for node in self.nodes:
            with node.client() as client:
                seen: Any = client.execute_command("CLUSTER", "NODES")
            # A line for each node: "id host:port@bus_port flags …".
            lines = [line.split() for line in seen.decode().splitlines()]
            if {words[1].partition("@")[0] for words in lines} != addresses:
                return False
        return all(facts_of(node).get("cluster_state") == "ok" for node in self.nodes)


def _until(is_so: Callable[[], bool]) -> Iterator[None]:
    deadline = Deadline(FORM_TIMEOUT_S)
    while not is_so():
        if deadline.passed:
            raise StackError("the nodes of the cluster do not find each other")
        yield


def _follows(node: ClusterNode, master_id: bytes) -> bool:
    """Have a node replicate a master, which it may not know yet."""
    with node.client() as client:
        try:
            client.execute_command("CLUSTER", "REPLICATE", master_id)
        except redis.ResponseError:
            return False
    return True


def _is_in_step(node: ClusterNode) -> bool:
    with node.client() as client:
        facts: Any = client.info("replication")
    return bool(facts.get("master_link_status") == "up")


def facts_of(node: ClusterNode) -> dict[str, str]:
    """Return what a node says of its cluster: CLUSTER INFO."""
    with node.client() as client:
        found: Any = client.execute_command("CLUSTER", "INFO")
    if isinstance(found, dict):
        return {str(name): str(value) for name, value in found.items()}
    return dict(line.partition(":")[::2] for line in found.decode().splitlines())
