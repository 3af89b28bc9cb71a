"""The `seckill` command: for operators of a mesh, and in the repository for the local stack."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import grpc
import typer

from seckill.version import VERSION
from seckill_cli import (
    audit,
    dead_letters,
    explain,
    kill_switch,
    orders,
    payments,
    reconcile,
    sales,
    trial,
    webhooks,
)
from seckill_cli.display import shown
from seckill_cli.errors import CommandFailed
from seckill_cli.gate import changes, limits, lists, policies, risk
from seckill_cli.mesh import IN_REPOSITORY, Security, fail_with_status, secure
from seckill_cli.preflight import command as preflight
from seckill_cli.top import command as top

app = typer.Typer(
    help="Inspect and operate a flash-sale mesh.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seckill {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    tls: Annotated[
        bool, typer.Option(envvar="SECKILL_TLS", help="Call services over TLS.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option(envvar="SECKILL_TLS_CA", help="PEM file of trusted authorities.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(envvar="SECKILL_TLS_CERT", help="PEM file of a certificate.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="SECKILL_TLS_KEY", help="PEM file of its private key.")
    ] = None,
    domain: Annotated[
        str,
        typer.Option(
            "--tls-domain",
            envvar="SECKILL_TLS_DOMAIN",
            help="Services' certificates name SERVICE.DOMAIN, and not their address.",
        ),
    ] = "",
) -> None:
    """Inspect and operate a flash-sale mesh."""
    secure(Security.of(tls=tls, ca=ca, cert=cert, key=key, domain=domain))


app.command("audit")(audit.audit)
app.command("reconcile")(reconcile.reconcile)
app.command("try")(trial.try_sale)
app.command("top")(top.top)
app.command("explain")(explain.explain)
app.command("preflight")(preflight.preflight)
app.add_typer(sales.app, name="sale")
app.add_typer(kill_switch.app, name="kill-switch")
app.add_typer(orders.app, name="order")
app.add_typer(payments.app, name="payment")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(limits.app, name="limits")
app.add_typer(lists.app, name="list")
app.add_typer(policies.app, name="policy")
app.command("gate-changes")(changes.gate_changes)
app.command("explain-risk")(risk.explain_risk)
FAILURES: tuple[type[Exception], ...] = (CommandFailed, OSError)
if IN_REPOSITORY:
    from seckill_cli.local import add_commands

    FAILURES += add_commands(app)


def main() -> None:
    """Run the command; whatever is wrong is said without a traceback, with exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding cannot show is escaped.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_utf8(sys.argv[1:])
        app(prog_name="seckill")
    except FAILURES as error:
        # One line a problem: a local stack that cannot start has all of them.
        sys.stderr.writelines(f"error: {shown(line)}\n" for line in str(error).splitlines())
        sys.exit(1)
    except grpc.RpcError as error:
        fail_with_status(error)


def _check_utf8(arguments: list[str]) -> None:
    """Raise CommandFailed if an argument is not text: no service takes such bytes."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandFailed(f"argument {argument!a} is not UTF-8") from None
