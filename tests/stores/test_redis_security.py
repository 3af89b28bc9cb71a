"""Redis as it is outside of a test: TLS only, client certificates, a user who may do little."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from devstack.authority import Authority, Issued
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import check_writable, open_redis, redis_faults, send_all
from seckill.runtime.store_settings import RedisSettings
from tests.kits.secure.debian import tls_redis_binary
from tests.kits.secure.redis import PASSWORD, SecureRedis
from tests.kits.stores import one_server

# Servers of their own, without a cluster.
pytestmark = one_server


@pytest.fixture(scope="module", params=["redis-server", "valkey-server"])
def secure_redis(
    request: pytest.FixtureRequest,
    authority: Authority,
    client: Issued,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SecureRedis]:
    """Start each of the two with TLS and an access list."""
    binary = tls_redis_binary(request.param)
    with SecureRedis(
        tmp_path_factory.mktemp(request.param), authority, client, binary=binary
    ) as server:
        yield server


def settings(
    url: str, *, authority: Authority | None = None, client: Issued | None = None
) -> RedisSettings:
    """Return settings with these files."""
    return RedisSettings(
        redis_url=SecretStr(url),
        redis_tls_ca=str(authority.certificate) if authority else "",
        redis_tls_certificate=str(client.certificate) if client else "",
        redis_tls_key=str(client.key) if client else "",
    )


async def test_a_user_with_a_certificate_reads_and_writes(
    secure_redis: SecureRedis, authority: Authority, client: Issued
) -> None:
    """By single commands and by the hot paths' way of sending."""
    async with open_redis(settings(secure_redis.url, authority=authority, client=client)) as redis:
        await check_writable(redis)
        await redis.set("seckill:stock:{example}", "1")
        assert await send_all(
            redis, [("GET", "seckill:stock:{example}"), ("DEL", "seckill:stock:{example}")]
        ) == [
            b"1",
            1,
        ]


async def test_files_in_the_address_do_as_well(secure_redis: SecureRedis) -> None:
    """As redis-py and others take them."""
    async with open_redis(settings(secure_redis.url_with_files)) as redis:
        await check_writable(redis)


async def test_the_access_list_lets_a_stage_have_its_keys_alone(
    secure_redis: SecureRedis, authority: Authority, client: Issued
) -> None:
    """Keys of others, and what ends a server or empties it, are refused."""
    async with open_redis(settings(secure_redis.url, authority=authority, client=client)) as redis:
        for command in (("SET", "shop:cart", "1"), ("FLUSHALL",), ("CONFIG", "SET", "save", "")):
            with pytest.raises(NoPermissionError):
                await send_all(redis, [command])


async def test_who_lacks_what_the_server_demands_gets_nothing(
    secure_redis: SecureRedis,
    authority: Authority,
    other_authority: Authority,
    client: Issued,
) -> None:
    """No certificate, one of another authority, another password; and a server we do not trust."""
    guessed = secure_redis.url.replace(PASSWORD, "guessed")
    for refused in (
        settings(secure_redis.url, authority=authority),
        settings(secure_redis.url, authority=authority, client=other_authority.issue("seckill")),
        settings(guessed, authority=authority, client=client),
        settings(secure_redis.url, authority=other_authority, client=client),
        settings(secure_redis.url, client=client),
    ):
        async with open_redis(refused) as redis:
            with pytest.raises(DependencyUnavailable), redis_faults():
                await redis.ping()


async def test_a_renewed_certificate_is_used_without_a_restart(
    secure_redis: SecureRedis,
    authority: Authority,
    other_authority: Authority,
    client: Issued,
    tmp_path: Path,
) -> None:
    """Connections that are made from then on have it; half of a new pair changes nothing."""
    stranger = other_authority.issue("seckill", file="stranger")
    own = Issued(tmp_path / "tls.pem", tmp_path / "tls-key.pem")
    shutil.copy(client.certificate, own.certificate)
    shutil.copy(client.key, own.key)
    async with open_redis(settings(secure_redis.url, authority=authority, client=own)) as redis:
        await redis.ping()
        shutil.copy(stranger.certificate, own.certificate)
        await redis.connection_pool.disconnect()
        await redis.ping()
        shutil.copy(stranger.key, own.key)
        await redis.connection_pool.disconnect()
        with pytest.raises(DependencyUnavailable), redis_faults():
            await redis.ping()
        shutil.copy(client.key, own.key)
        shutil.copy(client.certificate, own.certificate)
        await redis.connection_pool.disconnect()
        await redis.ping()
