"""`seckill token`: an identity for development."""

from pathlib import Path
from typing import Annotated

import typer

from devstack import LocalSettings
from seckill.runtime.dev_issuer import DevIssuer, load_or_create
from seckill_cli.terms import length_s

SecretsOption = Annotated[
    Path | None,
    typer.Option(help="Folder with jwks.json.", show_default="the local stack's"),
]


def dev_issuer(secrets: Path | None) -> DevIssuer:
    """Return the development issuer of the given folder, or of the local stack."""
    return load_or_create(secrets or LocalSettings.from_env().directory.absolute() / "secrets")


def token(
    user: Annotated[str, typer.Argument(help="The buyer or operator: the token's subject.")],
    ttl: Annotated[str, typer.Option(help="How long it is valid.")] = "1h",
    role: Annotated[
        list[str] | None, typer.Option(help="A role, e.g. operator; may be repeated.")
    ] = None,
    secrets: SecretsOption = None,
) -> None:
    """Print a JWT that a development mesh accepts as this person's identity."""
    typer.echo(dev_issuer(secrets).token(user, ttl_s=length_s(ttl, "--ttl"), roles=role or ()))
