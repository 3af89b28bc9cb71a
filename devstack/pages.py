"""The pages of the local stack: with a sign-in that needs no password, and its keys.

The keys are those of this stack's own development issuer and payment provider, and stand in the
folder that its edge serves. The edge of another profile serves nothing of `dev/`.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from edge import development_keys
from edge.development_keys import PROVIDER
from edge.pages import build

FOLDER = "web"
SECRET_NAME = "demopay-secret"  # noqa: S105 - a file's name
SECRET_BYTES = 32


def payment_providers(folder: Path) -> str:
    """Return SECKILL_ORDER_PAYMENT_PROVIDERS with the sandbox provider of the pages.

    Its secret is kept in `folder`, and made if there is none.
    """
    path = folder / SECRET_NAME
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")
    provider = {"name": PROVIDER, "scheme": "standard-webhooks", "secret": path.read_text()}
    return json.dumps([provider], separators=(",", ":"))


def prepare_pages(env: Mapping[str, str], folder: Path) -> None:
    """Build the pages into `folder`, for a mesh with these settings.

    Raises:
        OSError: the folder cannot be written.
    """
    development = env.get("SECKILL_PROFILE") == "development" and "SECKILL_GATEWAY_JWKS" in env
    build(folder, development=development)
    if development:
        development_keys.write(folder, env)
