"""The shop's own identities: a key of the shop's, its public half as a JWKS, and tokens.

A shop with an identity provider needs none of this: the mesh reads that provider's JWKS.

`python -m examples.shop.identity NAME [ROLE …]` prints a token, e.g. for an operator at a terminal.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER = "https://shop.example"
AUDIENCE = "seckill"
KEY_ID = "shop-1"
TOKEN_TTL_S = 3_600


class Identity:
    """Signs tokens with a key in a file, which is made if it is missing."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            path.touch(mode=0o600)
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        self._key = path.read_bytes()

    def jwks(self) -> dict[str, Any]:
        """Return the public key, as the mesh's SECKILL_GATEWAY_JWKS reads it."""
        private = serialization.load_pem_private_key(self._key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError("the key must be one of an elliptic curve")
        public = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]}

    def token(self, name: str, *roles: str) -> str:
        """Return a token: of a buyer, or with a role of a service ("service", "operator")."""
        now_s = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": name,
            "iat": now_s,
            "exp": now_s + TOKEN_TTL_S,
        }
        if roles:
            claims["roles"] = list(roles)
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": KEY_ID})


def key_path() -> Path:
    """Return where the key is: SHOP_KEY, or shop-key.pem in the working directory."""
    return Path(os.environ.get("SHOP_KEY", "shop-key.pem"))


if __name__ == "__main__":
    sys.stdout.write(Identity(key_path()).token(*sys.argv[1:]) + "\n")
