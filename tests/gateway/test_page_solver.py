"""The page's own solver, as docs/gate.md shows it, finds what the gateway asks for."""

import asyncio
import json
import re
import shutil

import pytest
from google.protobuf.json_format import MessageToDict

from devstack.mesh import REPOSITORY_ROOT
from gateway.challenge.proof_of_work import ProofOfWork

NOW_S = 1_800_000_000.0
NODE_S = 30.0


async def test_the_page_solves_a_challenge() -> None:
    """In a JavaScript engine; its solution counts."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no JavaScript engine")
    document = (REPOSITORY_ROOT / "docs" / "gate.md").read_text()
    (snippet,) = re.findall(r"```js\n(.*?)```", document, re.DOTALL)
    work = ProofOfWork([b"k" * 32], max_number=2_000, ttl_s=60)
    challenge = work.challenge("u-1", "phone", now_s=NOW_S)
    told = json.dumps(MessageToDict(challenge))
    process = await asyncio.create_subprocess_exec(
        *(node, "--input-type=module", "-e", f"{snippet}\nconsole.log(await solve({told}));"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), NODE_S)
    assert process.returncode == 0
    solution = output.decode().strip()
    assert await work.check(solution, user_id="u-1", sku="phone", address="", now_s=NOW_S)
