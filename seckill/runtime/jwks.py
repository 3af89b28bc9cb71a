"""An issuer's public keys, read from a file or a URL (RFC 7517)."""

import asyncio
import json
import time
import urllib.request
from urllib.error import URLError

import jwt
import structlog

from seckill.runtime.settings import read_file

FETCH_TIMEOUT_S = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
# Tokens that name an unknown key cause at most one reload in this time.
UNKNOWN_KEY_RELOAD_S = 10.0

log = structlog.get_logger()


class KeySet:
    """Keys by id, reloaded at an interval and when a token names a key that is not there."""

    def __init__(self, source: str, *, allow_symmetric: bool, reload_interval_s: float) -> None:
        """`source`: a path, or an http(s) URL; symmetric keys are for development only."""
        self.generation = 0
        self._source = source
        self._allow_symmetric = allow_symmetric
        self._reload_interval_s = reload_interval_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._loaded_s = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the source has ever been read with success."""
        return bool(self._keys)

    def get(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key of that id, or None; without an id, the only key there is."""
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def load(self) -> None:
        """Read the source.

        Raises:
            ValueError: it cannot be read, or has no usable key; the keys stay as they were.
        """
        self._loaded_s = time.monotonic()
        document = await asyncio.to_thread(read_jwks, self._source)
        keys = parse_jwks(document, allow_symmetric=self._allow_symmetric)
        if self._keys.keys() - keys.keys():
            # A key was withdrawn: tokens that it signed must be verified again.
            self.generation += 1
        self._keys = keys

    async def reload_for_unknown_key(self) -> None:
        """Reload, at most once in UNKNOWN_KEY_RELOAD_S; a failure is logged and changes nothing."""
        async with self._lock:
            if time.monotonic() - self._loaded_s >= UNKNOWN_KEY_RELOAD_S:
                await self._try_load()

    async def keep_loaded(self) -> None:
        """Reload at the interval until cancelled."""
        while True:
            await asyncio.sleep(self._reload_interval_s)
            async with self._lock:
                await self._try_load()

    async def _try_load(self) -> None:
        try:
            await self.load()
        except ValueError as error:
            log.warning("keys not reloaded", error=str(error))


def parse_jwks(document: str, *, allow_symmetric: bool) -> dict[str, jwt.PyJWK]:
    """Return the keys of a JWKS document by id; raises ValueError saying what is wrong with it."""
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(document)).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"not a JSON Web Key Set: {error}") from error
    symmetric = [key.key_id for key in found if key.key_type == "oct"]
    if symmetric and not allow_symmetric:
        raise ValueError(
            f"symmetric keys ({symmetric}) are refused in the production profile: a service that"
            " verifies tokens could also sign them"
        )
    return {key.key_id or "": key for key in found}


def is_url(source: str) -> bool:
    """Tell whether the source is fetched over HTTP; anything else is a path."""
    return source.startswith(("http://", "https://"))


def read_jwks(source: str) -> str:
    """Return the document of a path or URL; raises ValueError if it cannot be read."""
    if not is_url(source):
        return read_file(source)
    try:
        with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310 - scheme checked above
            body: bytes = response.read(DOCUMENT_BYTES_MAX + 1)
    except (URLError, OSError) as error:
        raise ValueError(f"cannot fetch {source}: {error}") from error
    if len(body) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"{source} has more than {DOCUMENT_BYTES_MAX} bytes")
    return body.decode()
