"""Postgres as it is outside of a test: TLS only, a password and a client certificate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.authority import Authority, Issued
from order_svc.db.database import SchemaMissing, open_database, wait_for_schema
from order_svc.settings import OrderSettings
from tests.kits.order_store import settings_for
from tests.kits.secure.postgres import PASSWORD, SecurePostgres

ROOT = Path(__file__).parents[2]
MIGRATION_TIMEOUT_S = 60.0


def files(authority: Authority, client: Issued | None = None) -> dict[str, str]:
    """Return the settings that name these files."""
    named = {"postgres_tls_ca": str(authority.certificate)}
    if client is not None:
        named |= {
            "postgres_tls_certificate": str(client.certificate),
            "postgres_tls_key": str(client.key),
        }
    return named


def with_files(dsn: str, **changes: str) -> OrderSettings:
    """Return the settings of a service that has only this database."""
    return OrderSettings.model_validate({**settings_for(dsn).model_dump(), **changes})


async def problem_at_start(settings: OrderSettings) -> str:
    """Return what the order service says when it gives up."""
    async with open_database(settings) as database:
        with pytest.raises(SchemaMissing) as refused:
            await wait_for_schema(database, timeout_s=2.0)
    return str(refused.value)


async def test_a_certificate_and_a_password_open_the_database(
    secure_postgres: SecurePostgres, authority: Authority, client: Issued
) -> None:
    """The connection is encrypted, by both event loops' drivers."""
    async with open_database(with_files(secure_postgres.url, **files(authority, client))) as opened:
        await opened.check_writable()
        row = await opened.transact(
            lambda connection: connection.fetchrow(
                "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
        )
    assert tuple(row) == (True, "/CN=seckill")


def test_the_migration_uses_the_same_files(
    secure_postgres: SecurePostgres, authority: Authority, client: Issued
) -> None:
    """As a Job runs it."""
    named = {f"SECKILL_{name.upper()}": path for name, path in files(authority, client).items()}
    done = subprocess.run(
        [sys.executable, "-m", "order_svc.db.migrate"],
        cwd=ROOT,
        env={**os.environ, "SECKILL_POSTGRES_DSN": secure_postgres.url, **named},
        capture_output=True,
        text=True,
        timeout=MIGRATION_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_what_the_server_refuses_is_said_in_its_own_words(
    secure_postgres: SecurePostgres, authority: Authority, client: Issued
) -> None:
    """No certificate; one that names somebody else; another password; no TLS at all."""
    url, own = secure_postgres.url, files(authority, client)
    stranger = files(authority, authority.issue("stranger"))
    guessed = url.replace(PASSWORD, "guessed")
    assert "valid client certificate" in await problem_at_start(with_files(url, **files(authority)))
    assert "authentication failed" in await problem_at_start(with_files(url, **stranger))
    assert "password authentication failed" in await problem_at_start(with_files(guessed, **own))
    assert "no pg_hba.conf entry" in await problem_at_start(with_files(f"{url}?sslmode=disable"))


async def test_a_server_that_we_do_not_trust_gets_no_password(
    secure_postgres: SecurePostgres,
    authority: Authority,
    other_authority: Authority,
    client: Issued,
) -> None:
    """Of another authority; or with a certificate for another name, unless that is allowed."""
    url, own = secure_postgres.url, files(authority, client)
    by_name = url.replace("127.0.0.1", "localhost")
    foreign = {**own, "postgres_tls_ca": str(other_authority.certificate)}
    assert "certificate verify failed" in await problem_at_start(with_files(url, **foreign))
    assert "certificate verify failed" in await problem_at_start(
        with_files(f"{url}?sslmode=verify-full")
    )
    assert "Hostname mismatch" in await problem_at_start(with_files(by_name, **own))
    lenient = with_files(f"{by_name}?sslmode=verify-ca", **own)
    async with open_database(lenient) as opened:
        await opened.check_writable()
