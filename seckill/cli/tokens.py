"""`seckill token`: an identity for development."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local import LocalSettings
from seckill.cli.terms import length_s
from seckill.dev_issuer import DevIssuer, load_or_create

SecretsOption = Annotated[
    Path | None,
    typer.Option(help="Folder with jwks.json.", show_default="the local stack's"),
]


def dev_issuer(secrets: Path | None) -> DevIssuer:
    """The development issuer of the given folder, or of the local stack."""
    return load_or_create(secrets or LocalSettings.from_env().directory.absolute() / "secrets")


def token(
    user: Annotated[str, typer.Argument(help="The buyer: becomes the token's subject.")],
    ttl: Annotated[str, typer.Option(help="How long it is valid.")] = "1h",
    secrets: SecretsOption = None,
) -> None:
    """Print a JWT that a development gateway accepts as this buyer's identity."""
    typer.echo(dev_issuer(secrets).token(user, ttl_s=length_s(ttl)))
