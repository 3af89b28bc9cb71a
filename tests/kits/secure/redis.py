"""Redis that speaks TLS only, demands a client certificate, and lets one user do little."""

from pathlib import Path
from typing import ClassVar

from devstack.authority import Authority, Issued
from devstack.ports import LOOPBACK
from devstack.valkey import ValkeyServer
from tests.kits.secure.rights import write_redis_users

# Of the access list that docs/stores.md has.
USER, PASSWORD = "seckill-inventory", "of-the-mesh"


class SecureRedis(ValkeyServer):
    """One server without a port in clear."""

    name: ClassVar[str] = "secure-redis"

    def __init__(
        self, directory: Path, authority: Authority, client: Issued, *, binary: Path
    ) -> None:
        super().__init__(directory)
        self._program = binary
        self._authority = authority
        self._client = client

    @property
    def url(self) -> str:
        """Its rediss:// address, with user and password of inventory."""
        return self.url_of("inventory")

    def url_of(self, stage: str) -> str:
        """Its address for a stage."""
        return f"rediss://seckill-{stage}:{PASSWORD}@{LOOPBACK}:{self.port}/0"

    @property
    def url_with_files(self) -> str:
        """The same for clients that take files in the address."""
        return (
            f"{self.url}?ssl_ca_certs={self._authority.certificate}"
            f"&ssl_certfile={self._client.certificate}&ssl_keyfile={self._client.key}"
        )

    @property
    def _probe_url(self) -> str:
        return self.url_with_files

    def _binary(self) -> Path:
        return self._program

    def _settings(self) -> dict[str, str]:
        server = self._authority.issue("redis")
        users = self.directory / "users.acl"
        write_redis_users(users, PASSWORD)
        return {
            **super()._settings(),
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(server.certificate),
            "tls-key-file": str(server.key),
            "tls-ca-cert-file": str(self._authority.certificate),
            "tls-auth-clients": "yes",
            "aclfile": str(users),
        }
