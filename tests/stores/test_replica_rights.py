"""Replicas of a Redis with users: a service reads them with the user that it has."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from devstack.redis_users import redis_url_of
from devstack.valkey import ValkeyWithUsers
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.redis_client import Command, open_redis, send_all
from seckill.runtime.redis_reads import open_reads
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

# Servers of their own, without a cluster.
pytestmark = one_server

READY_S = 40.0


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyWithUsers]:
    """Start a primary, and a replica with the same users."""
    directory: Path = tmp_path_factory.mktemp("users")
    with ValkeyWithUsers(directory / "primary") as server:
        (directory / "replica").mkdir()
        shutil.copy2(directory / "primary" / "password", directory / "replica" / "password")
        with (
            ValkeyWithUsers(directory / "replica") as follower,
            redis.Redis.from_url(server.url) as at_primary,
            redis.Redis.from_url(follower.url) as at_replica,
        ):
            at_replica.config_set("masterauth", str(at_primary.get_connection_kwargs()["password"]))
            at_primary.config_set("repl-diskless-sync-delay", 0)
            at_replica.replicaof("127.0.0.1", server.port)
            yield server


@pytest.mark.parametrize(
    ("stage", "write", "read", "reply"),
    [
        ("order", ("SET", "seckill:order:{1}", "x"), ("MGET", "seckill:order:{1}"), [b"x"]),
        ("inventory", ("SET", "seckill:stock:{a}", 1), ("GET", "seckill:stock:{a}"), b"1"),
    ],
)
async def test_a_service_reads_replicas_with_its_own_rights(
    primary: ValkeyWithUsers, stage: str, write: Command, read: Command, reply: object
) -> None:
    """It writes its beats, asks who the replicas are, and is told by one of them."""
    settings = ReadSettings(
        redis_url=SecretStr(redis_url_of(stage, primary.url)),
        redis_read_from="replica",
        redis_read_staleness_ms=5_000,
        redis_timeout_s=20,
    )
    async with open_redis(settings) as client, open_reads(client, settings) as reads:
        await send_all(client, [write])
        await eventually(
            lambda: reads.read([read]), lambda told: told.replies == [reply], timeout_s=READY_S
        )
