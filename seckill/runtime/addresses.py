"""What an address in a setting must look like; each check raises ValueError saying that."""

import re
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr
from redis.asyncio.connection import parse_url as parse_redis_url

PORT_MAX = 65_535
# gRPC's name of a server: DNS, with or without the scheme, and with or without a DNS server.
_TARGET = re.compile(r"(dns:(//[^/\s]*/)?)?([^\s/:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)")


def check_listen(value: str) -> str:
    """Return host:port to listen on; port 0 is any."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError(f"must be host:port with a port of 0 to {PORT_MAX}")
    return value


def check_addresses(value: str) -> str:
    """Return addresses host:port, separated by commas."""
    for address in value.split(","):
        host, _, port = address.rpartition(":")
        if not host or re.search(r"[\s/]", host) or not _is_port(port):
            raise ValueError(f"must be host:port,… with ports of 1 to {PORT_MAX}")
    return value


def check_target(value: str) -> str:
    """Return gRPC's name of a server."""
    found = _TARGET.fullmatch(value)
    if found is None and not value.startswith(("unix:", "ipv4:", "ipv6:", "xds:")):
        raise ValueError("must be dns:///host:port or host:port")
    if found is not None and not _is_port(found["port"]):
        raise ValueError(f"must have a port of 1 to {PORT_MAX}")
    return value


def check_redis_url(value: SecretStr) -> SecretStr:
    """Return an address of Redis."""
    try:
        for address in addresses_of_nodes(value.get_secret_value()):
            parse_redis_url(address)
    except ValueError:
        # Without the library's words: they may quote a part of the password.
        raise ValueError(
            "must be redis://[user:password@]host[:port][/database], or rediss:// or unix://"
        ) from None
    return value


def addresses_of_nodes(url: str) -> list[str]:
    """Return redis://user:password@host:port,host:port/… as an address for each host."""
    scheme, slashes, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    if scheme == "unix" or not slashes or "," not in hosts:
        return [url]
    return [f"{scheme}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]


def check_postgres_dsn(value: SecretStr) -> SecretStr:
    """Return an address of Postgres."""
    parts = urlsplit(value.get_secret_value())
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [match[1] for host in hosts if (match := re.search(r":([^\]:]*)$", host))]
    if parts.scheme not in ("postgresql", "postgres") or not all(map(_is_port, ports)):
        raise ValueError("must be postgresql://[user:password@]host[:port]/database")
    return value


def url_options(address: str) -> dict[str, str]:
    """Return what stands behind the "?" of an address, e.g. {"sslmode": "require"}."""
    query = parse_qs(urlsplit(address).query, keep_blank_values=True)
    return {name: values[-1] for name, values in query.items()}


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) <= PORT_MAX
