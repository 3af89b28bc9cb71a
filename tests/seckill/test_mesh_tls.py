"""TLS between services: who gets in, and what happens when certificates change."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from devstack.authority import Authority, Issued
from devstack.certificates import MESH_DOMAIN, issue_stage
from seckill.runtime import mesh_tls as mesh_tls_module
from seckill.runtime.callers import EDGE, GATEWAY, INVENTORY, ORDER
from seckill.runtime.channel import open_channel
from seckill.runtime.mesh_tls import MeshTls, mesh_tls
from seckill.runtime.settings import ProcessSettings
from seckill.runtime.store_tls import TlsFiles
from tests.kits.secure.stages import (
    CALL_S,
    Endless,
    EveryMethod,
    calling,
    refusal,
    renew,
    served,
    settings_of,
)
from tests.kits.waiting import eventually

RESERVE = "/seckill.v1.InventoryService/BatchReserve"
WATCH = "/seckill.v1.InventoryService/WatchSales"
HEALTH = "/grpc.health.v1.Health/Check"
SERVICE = "seckill.v1.InventoryService"
UNAVAILABLE, DENIED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at with each use, not once a second."""
    monkeypatch.setattr(mesh_tls_module, "LOOK_S", 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the mesh."""
    return Authority(tmp_path / "mesh")


@pytest.fixture
def inventory(authority: Authority) -> Issued:
    """The server's own."""
    return issue_stage(authority, INVENTORY)


def _none(_: Authority, __: Path) -> None:
    return None


def _of_another(_: Authority, folder: Path) -> Issued:
    return issue_stage(Authority(folder / "another"), GATEWAY)


def _past(authority: Authority, _: Path) -> Issued:
    names = (f"{GATEWAY}.{MESH_DOMAIN}",)
    return authority.issue("past", dns=names, valid=dt.timedelta(minutes=-5))


@pytest.mark.parametrize("made", [_none, _of_another, _past])
async def test_who_has_no_good_certificate_gets_no_connection(
    tmp_path: Path,
    authority: Authority,
    inventory: Issued,
    made: Callable[[Authority, Path], Issued | None],
) -> None:
    """None, one of another authority, and one that has ended; not even health is answered."""
    own = made(authority, tmp_path)
    async with (
        served(settings_of(authority, inventory), EveryMethod(INVENTORY)) as address,
        calling(address, authority, own) as channel,
    ):
        for path in (RESERVE, HEALTH):
            refused = await refusal(channel, path)
            assert refused is not None
            assert refused.code() is UNAVAILABLE


async def test_who_speaks_in_clear_gets_no_connection(
    authority: Authority, inventory: Issued
) -> None:
    """TLS is not one of two ways."""
    async with (
        served(settings_of(authority, inventory), EveryMethod(INVENTORY)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        refused = await refusal(channel, HEALTH)
        assert refused is not None
        assert refused.code() is UNAVAILABLE


@pytest.mark.parametrize(
    "names",
    [
        ("stranger.seckill.internal",),
        ("gateway.example.com",),
        ("gateway",),
        # Two stages are none.
        ("gateway.seckill.internal", "operator.seckill.internal"),
        ("x.gateway.seckill.internal",),
        (),
    ],
)
async def test_a_certificate_that_names_no_stage_may_ask_for_health_alone(
    authority: Authority, inventory: Issued, names: tuple[str, ...]
) -> None:
    """It is the mesh's, so it gets a connection; the common name says nothing."""
    own = authority.issue(f"gateway.{MESH_DOMAIN}", dns=names, file="odd")
    async with (
        served(settings_of(authority, inventory), EveryMethod(INVENTORY)) as address,
        calling(address, authority, own) as channel,
    ):
        refused = await refusal(channel, RESERVE)
        assert refused is not None
        assert refused.code() is DENIED
        assert refused.details() == "unknown may not call seckill.v1.InventoryService/BatchReserve"
        assert await refusal(channel, HEALTH) is None


async def test_a_caller_speaks_only_to_the_stage_that_it_means(
    authority: Authority, inventory: Issued
) -> None:
    """Who has taken the address of another stage is not told anything."""
    rogue = issue_stage(authority, ORDER)
    mesh = settings_of(authority, issue_stage(authority, GATEWAY)).mesh_tls()
    server = EveryMethod(INVENTORY)
    for own, answers in ((inventory, True), (rogue, False)):
        async with (
            served(settings_of(authority, own), server) as address,
            open_channel(address, service=SERVICE, mesh=mesh, breaker=False) as channel,
        ):
            refused = await refusal(channel, RESERVE)
            assert (refused is None) == answers
            assert refused is None or refused.code() is UNAVAILABLE


async def test_a_renewed_certificate_is_used_by_new_connections_and_calls_go_on(
    tmp_path: Path, authority: Authority, inventory: Issued
) -> None:
    """Of the server: the stream that is open does not notice."""
    edge = issue_stage(authority, EDGE)
    async with (
        served(settings_of(authority, inventory), Endless()) as address,
        calling(address, authority, edge) as channel,
    ):
        stream: Any = channel.stream_stream(WATCH)(timeout=60)
        await _talk(stream, b"before")
        first = await _serial_at(address, authority, edge)
        renewed = renew(authority, INVENTORY, inventory, tmp_path)
        assert await _serial_at(address, authority, edge) == _serial(renewed.certificate)
        assert first != _serial(renewed.certificate)
        await _talk(stream, b"after")
        stream.cancel()


async def test_a_renewed_certificate_is_shown_to_servers_and_calls_go_on(
    tmp_path: Path, authority: Authority, inventory: Issued
) -> None:
    """Of the caller: the next call has a connection with the new one."""
    gateway = issue_stage(authority, GATEWAY)
    mesh = settings_of(authority, gateway).mesh_tls()
    server = EveryMethod(INVENTORY)
    async with (
        served(settings_of(authority, inventory), Endless(), server) as address,
        open_channel(address, service=SERVICE, mesh=mesh) as channel,
    ):
        stream: Any = channel.stream_stream(WATCH)(timeout=60)
        await _talk(stream, b"before")
        reserve: Any = channel.unary_unary(RESERVE)
        await reserve(b"", timeout=CALL_S)
        first = server.seen
        renewed = renew(authority, GATEWAY, gateway, tmp_path)
        await reserve(b"", timeout=CALL_S)
        assert server.seen != first
        assert _serial_of(server.seen) == _serial(renewed.certificate)
        await _talk(stream, b"after")
        stream.cancel()


async def test_an_authority_that_is_gone_is_trusted_no_more(
    tmp_path: Path, authority: Authority, inventory: Issued
) -> None:
    """Certificates of the old one get no new connection, those of the new one do."""
    old = issue_stage(authority, GATEWAY)
    async with served(settings_of(authority, inventory), EveryMethod(INVENTORY)) as address:
        async with calling(address, authority, old) as channel:
            assert await refusal(channel, RESERVE) is None
        new = Authority(tmp_path / "new")
        made = issue_stage(new, INVENTORY)
        made.key.replace(inventory.key)
        made.certificate.replace(inventory.certificate)
        authority.certificate.write_bytes(new.certificate.read_bytes())
        async with calling(address, new, issue_stage(new, GATEWAY)) as channel:
            assert await refusal(channel, RESERVE) is None
        async with calling(address, new, old) as channel:
            refused = await refusal(channel, RESERVE)
            assert refused is not None
            assert refused.code() is UNAVAILABLE


def _half(authority: Authority, own: Issued) -> None:
    other = authority.issue("other", dns=(f"{INVENTORY}.{MESH_DOMAIN}",))
    other.certificate.replace(own.certificate)


def _garbage(_: Authority, own: Issued) -> None:
    own.certificate.write_text("not a certificate")


def _ended(authority: Authority, own: Issued) -> None:
    names = (f"{INVENTORY}.{MESH_DOMAIN}",)
    other = authority.issue("other", dns=names, valid=dt.timedelta(minutes=-5))
    other.key.replace(own.key)
    other.certificate.replace(own.certificate)


def _of_nobody(authority: Authority, own: Issued) -> None:
    other = authority.issue("other", dns=("elsewhere.example.com",))
    other.key.replace(own.key)
    other.certificate.replace(own.certificate)


def _gone(_: Authority, own: Issued) -> None:
    own.key.unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_half, "is not the key of the certificate"),
        (_garbage, "holds no certificate in PEM form"),
        (_ended, "ended at"),
        (_of_nobody, "must name one stage of the mesh"),
        (_gone, "No such file or directory"),
    ],
)
async def test_new_files_that_are_wrong_are_refused_and_the_old_ones_stay_in_use(
    tmp_path: Path,
    authority: Authority,
    inventory: Issued,
    spoil: Callable[[Authority, Issued], None],
    says: str,
) -> None:
    """One line and one count, however often it is looked at; right ones are used after that."""
    edge = issue_stage(authority, EDGE)
    first = _serial(inventory.certificate)

    def refused() -> float:
        return REGISTRY.get_sample_value("seckill_mesh_certificates_refused_total") or 0.0

    before = refused()
    async with served(settings_of(authority, inventory), Endless()) as address:
        with capture_logs() as logs:
            spoil(authority, inventory)
            for _ in range(3):
                assert await _serial_at(address, authority, edge) == first
        assert refused() == before + 1
        lines = [line for line in logs if line["event"].startswith("mesh certificate refused")]
        assert len(lines) == 1
        assert says in lines[0]["error"]
        assert "SECKILL_MESH_TLS_" in lines[0]["error"]
        renewed = renew(authority, INVENTORY, inventory, tmp_path)
        assert await _serial_at(address, authority, edge) == _serial(renewed.certificate)


async def test_the_metric_tells_when_the_certificate_ends(
    authority: Authority, inventory: Issued
) -> None:
    """Also of a renewed one, while nobody connects."""
    tls = settings_of(authority, inventory).mesh_tls()
    assert tls is not None

    async def ends() -> float | None:
        name = "seckill_certificate_expiry_timestamp_seconds"
        return REGISTRY.get_sample_value(name, {"use": "mesh"})

    assert await ends() == _read(inventory.certificate).not_valid_after_utc.timestamp()
    watch = asyncio.create_task(tls.run())
    names = (f"{INVENTORY}.{MESH_DOMAIN}",)
    short = authority.issue("short", dns=names, valid=dt.timedelta(days=3))
    expected = _read(short.certificate).not_valid_after_utc.timestamp()
    short.key.replace(inventory.key)
    short.certificate.replace(inventory.certificate)
    await eventually(ends, lambda seen: seen == expected)
    watch.cancel()


async def test_probes_have_a_listener_in_clear_that_answers_health_alone(
    authority: Authority, inventory: Issued
) -> None:
    """The kubelet has no certificate."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        probes = f"127.0.0.1:{free.getsockname()[1]}"
    settings = settings_of(authority, inventory, mesh_tls_probe_listen=probes)
    async with (
        served(settings, EveryMethod(INVENTORY)),
        grpc.aio.insecure_channel(probes) as channel,
    ):
        assert await refusal(channel, HEALTH) is None
        refused = await refusal(channel, RESERVE)
        assert refused is not None
        assert refused.code() is DENIED


async def test_a_socket_in_the_file_system_needs_no_certificate(
    tmp_path: Path, authority: Authority, inventory: Issued
) -> None:
    """Its folder says who may call."""
    listen = f"unix:{tmp_path / 'here.sock'}"
    settings = settings_of(authority, inventory)
    async with (
        served(settings, EveryMethod(INVENTORY), listen=listen),
        grpc.aio.insecure_channel(listen) as channel,
    ):
        assert await refusal(channel, RESERVE) is None


def test_settings_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, authority: Authority, inventory: Issued
) -> None:
    """At start."""
    files = {
        "mesh_tls_ca": str(authority.certificate),
        "mesh_tls_certificate": str(inventory.certificate),
        "mesh_tls_key": str(inventory.key),
    }
    for missing in files:
        with pytest.raises(ValueError, match=f"SECKILL_{missing.upper()} is not set"):
            ProcessSettings.model_validate({**files, missing: ""})
    with pytest.raises(ValueError, match=r"SECKILL_MESH_TLS_KEY.*cannot be read"):
        ProcessSettings.model_validate({**files, "mesh_tls_key": str(tmp_path / "none")})
    with pytest.raises(ValueError, match=r"must name one stage.*inventory\.another\.mesh"):
        ProcessSettings.model_validate({**files, "mesh_tls_domain": "another.mesh"})
    with pytest.raises(ValueError, match="SECKILL_MESH_TLS_PROBE_LISTEN needs"):
        ProcessSettings.model_validate({"mesh_tls_probe_listen": "127.0.0.1:1"})
    with pytest.raises(ValueError, match="begins at"):
        MeshTls(
            TlsFiles("SECKILL_MESH_TLS", *files.values()), domain=MESH_DOMAIN, now_s=lambda: 0.0
        )
    assert ProcessSettings().mesh_tls() is None
    assert mesh_tls(TlsFiles("SECKILL_MESH_TLS", *files.values()), domain=MESH_DOMAIN)


async def _talk(stream: Any, text: bytes) -> None:
    await stream.write(text)
    assert await stream.read() == text


async def _serial_at(address: str, authority: Authority, own: Issued) -> int:
    """The serial number of the certificate that a server shows on a new connection."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.load_cert_chain(own.certificate, own.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _serial(path: Path) -> int:
    return _read(path).serial_number


def _serial_of(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number
