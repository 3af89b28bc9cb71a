"""An issuer of identities for development: a symmetric key in a JWKS file.

The production profile of the services refuses symmetric keys, so these identities work in
development only. `python -m seckill.runtime.dev_issuer FOLDER [USER [ROLE …]]` creates the keys if
there are none, and prints an identity of USER with these roles.
"""

import base64
import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt

ISSUER = "https://issuer.seckill.localhost"
AUDIENCE = "seckill"
KEY_ID = "development"
KEY_BYTES = 32
TOKEN_TTL_S = 3600
JWKS_NAME = "jwks.json"
PURCHASE_KEYS_NAME = "purchase-token-keys"


@dataclass(frozen=True, kw_only=True)
class DevIssuer:
    """Signs identities that services with the same JWKS accept.

    Attributes:
        jwks_path: the JWKS file with the one key.
        purchase_token_keys: for SECKILL_GATEWAY_TOKEN_KEYS.
    """

    jwks_path: Path
    key: bytes
    purchase_token_keys: str
    issuer: str = ISSUER
    audience: str = AUDIENCE

    def token(
        self,
        user_id: str,
        *,
        ttl_s: float = TOKEN_TTL_S,
        roles: Sequence[str] = (),
        more: Mapping[str, object] | None = None,
    ) -> str:
        """Return a JWT (HS256) whose subject is `user_id`, valid for `ttl_s` seconds.

        Args:
            user_id: its subject.
            ttl_s: its life.
            roles: the claim that makes operators ("operator").
            more: further claims, e.g. those that SECKILL_GATEWAY_RISK_… name.
        """
        now_s = int(time.time())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user_id,
            "iat": now_s,
            "exp": now_s + int(ttl_s),
        }
        if roles:
            claims["roles"] = list(roles)
        claims |= more or {}
        return jwt.encode(claims, self.key, algorithm="HS256", headers={"kid": KEY_ID})


def load_or_create(directory: Path) -> DevIssuer:
    """Return the issuer whose keys are in `directory`; create them if there are none.

    Raises:
        OSError: the directory cannot be written, or the keys cannot be read.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    jwks_path = directory / JWKS_NAME
    keys_path = directory / PURCHASE_KEYS_NAME
    if not jwks_path.exists():
        key = secrets.token_bytes(KEY_BYTES)
        encoded = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
        entry = {"kty": "oct", "kid": KEY_ID, "alg": "HS256", "use": "sig", "k": encoded}
        _write(jwks_path, json.dumps({"keys": [entry]}, indent=2))
    if not keys_path.exists():
        secret = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        _write(keys_path, f"{KEY_ID}:{secret}")
    encoded = json.loads(jwks_path.read_text())["keys"][0]["k"]
    return DevIssuer(
        jwks_path=jwks_path,
        key=base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)),
        purchase_token_keys=keys_path.read_text().strip(),
    )


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def main(folder: str, user_id: str = "", *roles: str) -> None:
    """Create the keys if there are none, and print an identity if a user is given."""
    issuer = load_or_create(Path(folder))
    if user_id:
        sys.stdout.write(issuer.token(user_id, roles=roles) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
