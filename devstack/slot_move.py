"""Moving a slot of a Redis Cluster from one master to another."""

import time
from typing import Any

from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.errors import StackError
from devstack.ports import LOOPBACK
from devstack.valkey_cluster import ClusterNode, ValkeyCluster

# Keys of a slot that one MIGRATE takes along.
MIGRATE_KEYS = 10
MIGRATE_TIMEOUT_MS = 5_000
# More than a slot of ours has.
KEYS_MAX = 10_000


class SlotMove:
    """Moves one slot from its owner to the next master."""

    def __init__(self, cluster: ValkeyCluster, slot: int) -> None:
        self.slot = slot
        self.source = cluster.master_of(slot)
        masters = cluster.masters()
        self.target = masters[(masters.index(self.source) + 1) % len(masters)]
        self._cluster = cluster
        self._ids = {node.port: _id_of(node) for node in (self.source, self.target)}

    def begin(self) -> None:
        """Have the slot migrate: from now on its keys are in two places."""
        self._setslot(self.target, "IMPORTING", self._ids[self.source.port])
        self._setslot(self.source, "MIGRATING", self._ids[self.target.port])

    def move_keys(self, *, most: int = KEYS_MAX) -> int:
        """Move all keys, or `most`; return how many."""
        moved = 0
        with self.source.client() as client:
            while moved < most:
                count = min(MIGRATE_KEYS, most - moved)
                keys: Any = client.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, count)
                if not keys:
                    break
                words = (LOOPBACK, self.target.port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS", *keys)
                client.execute_command("MIGRATE", *words)
                moved += len(keys)
        return moved

    def end(self) -> None:
        """Give the slot to its new owner, and tell all masters."""
        owner = self._ids[self.target.port]
        others = [node for node in self._cluster.masters() if node is not self.target]
        for node in (self.target, *others):
            self._setslot(node, "NODE", owner)

    def by_keys(self) -> None:
        """Move the slot from beginning to end, as redis-cli does."""
        self.begin()
        self.move_keys()
        self.end()

    def at_once(self) -> None:
        """Have Valkey 9 move the slot by itself, in one step for its clients; it takes a while."""
        with self.source.client() as client:
            words = ("SLOTSRANGE", self.slot, self.slot, "NODE", self._ids[self.target.port])
            client.execute_command("CLUSTER", "MIGRATESLOTS", *words)

    def wait(self, *, timeout_s: float) -> None:
        """Return once the slot has its new owner. Raises StackError after `timeout_s`."""
        deadline = Deadline(timeout_s)
        while self._cluster.master_of(self.slot) is not self.target:
            if deadline.passed:
                raise StackError(f"the slot {self.slot} has not moved within {timeout_s:.0f} s")
            time.sleep(POLL_INTERVAL_S)

    def _setslot(self, node: ClusterNode, *words: Any) -> None:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", self.slot, *words)


def _id_of(node: ClusterNode) -> str:
    with node.client() as client:
        found: Any = client.execute_command("CLUSTER", "MYID")
    return found.decode() if isinstance(found, bytes) else str(found)
