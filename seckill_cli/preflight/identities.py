"""Who plays the buyers of a rehearsal: JWTs of a file, or those of the local stack's issuer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from seckill_cli.errors import CommandFailed


class Issuer(Protocol):
    """Makes identities; the local stack has one."""

    def token(self, user_id: str) -> str:
        """Return a JWT of that user."""


@dataclass(frozen=True)
class Identities:
    """Identities by number.

    Attributes:
        tokens: JWTs, one a buyer; used if there is no issuer.
        issuer: mints as many as are needed.
    """

    tokens: Sequence[str] = ()
    issuer: Issuer | None = None

    @property
    def count(self) -> int | None:
        """How many there are; None for as many as are needed."""
        return None if self.issuer else len(self.tokens)

    def take(self, first: int, count: int, sku: str) -> list[str]:
        """Return the JWTs of `count` buyers from the `first` on."""
        if self.issuer is None:
            return list(self.tokens[first : first + count])
        return [self.issuer.token(f"{sku}-{number}") for number in range(first, first + count)]


def read_identities(path: Path) -> Identities:
    """Return the JWTs of a file, one a line; raises CommandFailed naming it."""
    try:
        lines = path.read_text().split()
    except (OSError, ValueError) as error:
        raise CommandFailed(f"--identities {path}: {error}") from error
    tokens = list(dict.fromkeys(lines))
    if not tokens:
        raise CommandFailed(f"--identities {path}: there is no JWT in it")
    return Identities(tokens)
