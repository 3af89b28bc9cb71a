"""Keys of a development issuer and payment provider, for the pages that sign in without a password.

The edge of another profile serves nothing of their folder.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from edge.web import DEVELOPMENT

FILE = "keys.json"
# The payment provider whose page is /dev/pay/.
PROVIDER = "demopay"
AUDIENCE = "seckill"


def write(folder: Path, env: Mapping[str, str]) -> None:
    """Write the keys that these settings name; none if they name no issuer.

    Raises:
        OSError: the keys cannot be read or written.
    """
    if "SECKILL_GATEWAY_JWKS" in env:
        path = folder / DEVELOPMENT / FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(_keys(env)))


def _keys(env: Mapping[str, str]) -> dict[str, object]:
    (key,) = json.loads(Path(env["SECKILL_GATEWAY_JWKS"]).read_text())["keys"]
    providers = json.loads(env.get("SECKILL_ORDER_PAYMENT_PROVIDERS") or "[]")
    ours = [one for one in providers if one["name"] == PROVIDER]
    return {
        "issuer": env["SECKILL_GATEWAY_JWT_ISSUER"],
        "audience": env.get("SECKILL_GATEWAY_JWT_AUDIENCE", AUDIENCE),
        "keyId": key["kid"],
        "key": key["k"],
        "provider": {"name": PROVIDER, "secret": ours[0]["secret"]} if ours else None,
    }
