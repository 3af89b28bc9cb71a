"""Redis with a user for each service, with the rights of deploy/stores/users.acl."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

REDIS_USERS = Path(__file__).parents[1] / "deploy" / "stores" / "users.acl"


def load_or_create_password(path: Path) -> str:
    """Return the administrator's password, kept in a file of this user's."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()


def password_of(user: str, administrator: str) -> str:
    """Return a user's password; who has it knows no other one."""
    return hmac.new(administrator.encode(), user.encode(), hashlib.sha256).hexdigest()


def write_redis_users(path: Path, administrator: str) -> None:
    """Write the access list, with an administrator for what keeps the stack and judges demos."""
    lines = []
    for line in REDIS_USERS.read_text().splitlines():
        _, user, *_ = line.split()
        lines.append(line.replace("CHANGE-ME", password_of(user, administrator)))
    # The line of the default user comes first.
    lines[0] = f"user default on >{administrator} ~* &* +@all"
    path.touch(mode=0o600)
    path.write_text("\n".join([*lines, ""]))


def redis_url_of(stage: str, administrator_url: str) -> str:
    """Return a stage's address of a Redis with that access list."""
    parts = urlsplit(administrator_url)
    user = f"seckill-{stage}"
    password = password_of(user, parts.password or "")
    return f"redis://{user}:{password}@{parts.hostname}:{parts.port}{parts.path}"
