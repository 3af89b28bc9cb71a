"""The buyers of the visits: a JWT for each, minted here or read from a file."""

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path

from seckill.runtime.dev_issuer import load_or_create


def minted(secrets: Path) -> Iterator[str]:
    """Yield JWTs of the development issuer for new buyers, without end.

    Args:
        secrets: folder with the keys that the mesh knows.
    """
    issuer = load_or_create(secrets)
    # Random, so that no two processes or runs share a buyer.
    tag = uuid.uuid4().hex[:12]
    for number in itertools.count():
        yield issuer.token(f"flow-{tag}-{number}")


def read(path: Path, *, share: int, shares: int) -> Iterator[str]:
    """One process's JWTs of a file, which has one a line.

    Args:
        share: of this process, from 0.
        shares: how many processes divide the file among them.

    Raises:
        ValueError: there are more processes than shares, so two would send the same buyers.
    """
    if share >= shares:
        raise ValueError(f"worker {share + 1} of {shares}: --expect-workers is too small")
    return _lines(path, share, shares)


def _lines(path: Path, share: int, shares: int) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in itertools.islice(lines, share, None, shares):
            if jwt := line.strip():
                yield jwt
