"""What callers can make the gateway hold, all tables full together."""

import asyncio
import json
import re
import sys
from pathlib import Path

import yaml

from seckill.runtime.dev_issuer import load_or_create

VALUES = Path(__file__).parents[2] / "deploy" / "k8s" / "values.yaml"
MIB = 1024 * 1024


def memory_limit_bytes() -> int:
    """What the chart lets a gateway have."""
    limit = yaml.safe_load(VALUES.read_text())["gateway"]["resources"]["limits"]["memory"]
    found = re.fullmatch(r"(\d+)Mi", limit)
    assert found is not None
    return int(found[1]) * MIB


async def test_all_tables_full_of_the_largest_keys_leave_room_to_spare(tmp_path: Path) -> None:
    """Half of the pod's memory is for calls and connections, whatever keys callers send."""
    issuer = load_or_create(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kits.full_tables"),
        *(str(issuer.jwks_path), issuer.purchase_token_keys),
        stdout=asyncio.subprocess.PIPE,
        cwd=VALUES.parents[2],
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(output)
    assert found["full"] < memory_limit_bytes() / 2, found
