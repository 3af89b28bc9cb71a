"""An issuer of identities for development and for trying: its keys are files in a folder.

The production profile of the services refuses symmetric keys, so by default these identities work
in development only. `python -m seckill.runtime.dev_issuer FOLDER [USER [ROLE …]]` creates the keys
if there are none, and prints an identity of USER with these roles; with `--es256` before the folder
new keys are asymmetric: then the production profile can be tried without an identity provider.
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
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ISSUER = "https://issuer.seckill.localhost"
AUDIENCE = "seckill"
KEY_ID = "development"
TRIAL_KEY_ID = "trial"
KEY_BYTES = 32
TOKEN_TTL_S = 3600
JWKS_NAME = "jwks.json"
PURCHASE_KEYS_NAME = "purchase-token-keys"
# Only of an asymmetric issuer; the services need no more than the JWKS.
PRIVATE_KEY_NAME = "private-key.pem"
ES256_OPTION = "--es256"


@dataclass(frozen=True, kw_only=True)
class DevIssuer:
    """Signs identities that services with the same JWKS accept.

    Attributes:
        jwks_path: the JWKS file with the one key.
        key: the secret of HS256, or the private key of ES256 as PEM.
        purchase_token_keys: for SECKILL_GATEWAY_TOKEN_KEYS.
    """

    jwks_path: Path
    key: bytes
    purchase_token_keys: str
    algorithm: str = "HS256"
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
        """Return a JWT whose subject is `user_id`, valid for `ttl_s` seconds.

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
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": KEY_ID})


def load_or_create(directory: Path, *, asymmetric: bool = False) -> DevIssuer:
    """Return the issuer whose keys are in `directory`; create them if there are none.

    Args:
        directory: of the keys; the folder is made, too.
        asymmetric: of which kind new keys are; those that are there stay as they are.

    Raises:
        OSError: the directory cannot be written, or the keys cannot be read.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    jwks_path = directory / JWKS_NAME
    private_path = directory / PRIVATE_KEY_NAME
    keys_path = directory / PURCHASE_KEYS_NAME
    if not jwks_path.exists():
        entry = _new_key_pair(private_path) if asymmetric else _new_secret()
        _write(jwks_path, json.dumps({"keys": [entry]}, indent=2))
    if not keys_path.exists():
        secret = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        # The production profile refuses a key of the other name.
        name = TRIAL_KEY_ID if private_path.exists() else KEY_ID
        _write(keys_path, f"{name}:{secret}")
    purchase_token_keys = keys_path.read_text().strip()
    if private_path.exists():
        return DevIssuer(
            jwks_path=jwks_path,
            key=private_path.read_bytes(),
            purchase_token_keys=purchase_token_keys,
            algorithm="ES256",
        )
    encoded = json.loads(jwks_path.read_text())["keys"][0]["k"]
    return DevIssuer(
        jwks_path=jwks_path,
        key=base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)),
        purchase_token_keys=purchase_token_keys,
    )


def _new_secret() -> dict[str, str]:
    """Return a new key of HS256 as a JWK."""
    encoded = _base64url(secrets.token_bytes(KEY_BYTES))
    return {"kty": "oct", "kid": KEY_ID, "alg": "HS256", "use": "sig", "k": encoded}


def _new_key_pair(path: Path) -> dict[str, str]:
    """Write a new private key of ES256; return its public half as a JWK."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(path, pem.decode())
    point = private.public_key().public_numbers()
    x, y = (_base64url(number.to_bytes(KEY_BYTES, "big")) for number in (point.x, point.y))
    public = {"kty": "EC", "crv": "P-256", "kid": KEY_ID, "alg": "ES256", "use": "sig"}
    return {**public, "x": x, "y": y}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def main(*words: str) -> None:
    """Create the keys if there are none, and print an identity if a user is given."""
    asymmetric = words[:1] == (ES256_OPTION,)
    folder, *rest = words[1:] if asymmetric else words
    issuer = load_or_create(Path(folder), asymmetric=asymmetric)
    if rest:
        user_id, *roles = rest
        sys.stdout.write(issuer.token(user_id, roles=roles) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
