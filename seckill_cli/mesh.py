"""Which mesh a command speaks to: by option, by variable, or the local stack that runs."""

import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import grpc
import typer
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from seckill.status import DETAILS_KEY
from seckill_cli.display import shown
from seckill_cli.errors import CommandFailed

if TYPE_CHECKING:
    from devstack import StackState

CALL_TIMEOUT_S = 10.0
# The local stack is a tool of the repository; the wheel has only what needs an address.
IN_REPOSITORY = find_spec("devstack") is not None
_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def _target_option(service: str) -> Any:
    return typer.Option(
        f"--{service}",
        envvar=variable_of(service),
        help=f"Address of the {service} service, host:port.",
        show_default="the local stack's" if IN_REPOSITORY else False,
    )


def variable_of(service: str) -> str:
    """Return the name of the variable that says where a service is."""
    return f"SECKILL_{service.upper()}_TARGET"


GatewayOption = Annotated[str, _target_option("gateway")]
InventoryOption = Annotated[str, _target_option("inventory")]
OrderOption = Annotated[str, _target_option("order")]
RollbackOption = Annotated[str, _target_option("rollback")]


@dataclass(frozen=True)
class Security:
    """How channels are secured.

    Attributes:
        credentials: TLS; None is plaintext.
        ca, cert, key: the files that they are made of; None for the system's authorities, and for
            no certificate of ours.
        domain: certificates must name services within this domain; empty: they must name their
            addresses.
    """

    credentials: grpc.ChannelCredentials | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    domain: str = ""

    def context(self) -> ssl.SSLContext | None:
        """Return the same for HTTP/2 without gRPC; None is plaintext."""
        if self.credentials is None:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2"])
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def name_of(self, service: str) -> str:
        """Return what the certificate of a service must name; empty: its address."""
        return f"{service}.{self.domain}" if self.domain else ""

    def options(self, service: str) -> list[tuple[str, str]]:
        """Return the options of a channel to a service."""
        name = self.name_of(service)
        return [("grpc.ssl_target_name_override", name)] if name else []

    @classmethod
    def of(
        cls, *, tls: bool, ca: Path | None, cert: Path | None, key: Path | None, domain: str = ""
    ) -> "Security":
        """Read the files; any of them means TLS. Raises CommandFailed naming the option."""
        if (cert is None) is not (key is None):
            raise CommandFailed("--cert and --key (SECKILL_TLS_CERT, SECKILL_TLS_KEY) go together")
        if not (tls or ca or cert):
            return cls()
        return cls(
            grpc.ssl_channel_credentials(
                root_certificates=_read("--ca", ca),
                private_key=_read("--key", key),
                certificate_chain=_read("--cert", cert),
            ),
            ca,
            cert,
            key,
            domain,
        )


def _read(option: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandFailed(f"{option} {shown(str(path))}: {reason}") from error


# Set once, by the options of the command as a whole, before any channel is opened.
security = Security()


def secure(chosen: Security) -> None:
    """Use this security for all channels from now on."""
    global security  # noqa: PLW0603 - a command's own setting, set once
    security = chosen


def security_of(target: str) -> Security:
    """Return how to speak to an address: as chosen, else as the local stack's own operator."""
    if security.credentials is not None:
        return security
    state = local_state()
    if state is None or not state.certificates or not is_local(target):
        return security
    # Not at import: the wheel has no local stack.
    from devstack.certificates import MESH_DOMAIN, load_or_create_mesh  # noqa: PLC0415

    mesh = load_or_create_mesh(Path(state.certificates))
    own = mesh.operator
    return Security.of(
        tls=True, ca=mesh.authority, cert=own.certificate, key=own.key, domain=MESH_DOMAIN
    )


def local_state() -> "StackState | None":
    """Return the local stack that runs from this folder, or None."""
    if not IN_REPOSITORY:
        return None
    # Not at import: the wheel has no local stack.
    from devstack import LocalSettings, StackError, running_state  # noqa: PLC0415

    try:
        return running_state(LocalSettings.from_env().directory.absolute())
    except StackError as error:
        raise CommandFailed(str(error)) from error


def is_local(target: str) -> bool:
    """Whether each address of a gRPC target is one of the local stack's that runs here."""
    state = local_state()
    ours = {process.address for process in state.processes} if state else set()
    addresses = target.removeprefix("ipv4:").removeprefix("dns:///").split(",")
    return ours.issuperset(addresses)


def target_of(service: str, given: str) -> str:
    """Return where a service is: what was given, else the local stack's address.

    Raises:
        CommandFailed: neither is there; says which option and variable to give.
    """
    if given:
        return given
    state = local_state()
    for process in state.processes if state else ():
        if process.name == service:
            return process.address
    up = ", or start the local stack (seckill up)" if IN_REPOSITORY else ""
    raise CommandFailed(
        f"the address of the {service} service is not set:"
        f" give --{service} or {variable_of(service)}{up}"
    )


def aio_channel_to(service: str, target: str) -> grpc.aio.Channel:
    """Return a channel to a service at an address, for asyncio; the caller closes it."""
    chosen = security_of(target)
    if chosen.credentials is None:
        return grpc.aio.insecure_channel(target)
    return grpc.aio.secure_channel(target, chosen.credentials, options=chosen.options(service))


@contextmanager
def channel_to(service: str, given: str) -> Iterator[grpc.Channel]:
    """Open a channel to a service for the time of the block.

    Raises:
        CommandFailed: the service does not answer; says its address and the setting for it.
    """
    target = target_of(service, given)
    chosen = security_of(target)
    opened = (
        grpc.insecure_channel(target)
        if chosen.credentials is None
        else grpc.secure_channel(target, chosen.credentials, options=chosen.options(service))
    )
    with opened as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            call: Any = error
            if call.code() not in _UNREACHABLE or _encoded_details(call) is not None:
                raise
            raise CommandFailed(
                f"the {service} service does not answer at {shown(target)}"
                f" (--{service}, {variable_of(service)}): {shown(call.details() or '')}"
            ) from error


def fail_with_status(error: grpc.RpcError) -> NoReturn:
    """Say what a service answered, with its details, and exit with 1."""
    call: Any = error
    lines = [f"error: {call.code().name}: {shown(call.details() or '')}"]
    encoded = _encoded_details(call)
    if encoded is not None:
        lines.extend(f"  {shown(line)}" for line in _explain(encoded))
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(1)


def _encoded_details(call: Any) -> bytes | None:
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return None


def _explain(encoded: bytes) -> Iterator[str]:
    try:
        status = status_pb2.Status.FromString(encoded)
        yield from _explain_each(status.details)
    except DecodeError:
        yield "its details cannot be read"


def _explain_each(details: Iterable[any_pb2.Any]) -> Iterator[str]:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Unpack(info):
            yield f"reason {info.reason}"
        elif detail.Unpack(bad):
            for violation in bad.field_violations:
                yield f"{violation.field} {violation.description}"
        elif detail.Unpack(retry):
            yield f"try again in {retry.retry_delay.ToMilliseconds() / 1000:g} s"
