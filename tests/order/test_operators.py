"""Who may call OrderAdminService, over gRPC and from the command line."""

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from pydantic import ValidationError

from devstack import RunningProcess, StackState, Stores
from devstack.directory import STACK, DirectoryLock
from order_svc.settings import OrderSettings
from seckill.runtime.dev_issuer import load_or_create
from seckill.status import reason_of
from seckill.v1 import order_admin_pb2 as pb
from seckill.v1.order_admin_pb2 import DESCRIPTOR
from tests.kits.gateway import details
from tests.kits.operator import Desk, authorization, open_desk
from tests.kits.stores import Topics

METHODS = [method.name for method in DESCRIPTOR.services_by_name["OrderAdminService"].methods]
STORES: dict[str, Any] = {
    "postgres_dsn": "postgresql://none",
    "redis_url": "redis://none",
    "kafka_bootstrap": "none:1",
}


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk before a service that knows the issuer of operators."""
    async with open_desk(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics, secrets=tmp_path
    ) as opened:
        yield opened


async def refusal(desk: Desk, method: str, metadata: Any) -> tuple[grpc.StatusCode, str | None]:
    """Return how a call of a method with an empty request fails."""
    request = getattr(pb, f"{method}Request")()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(desk.stub, method)(request, metadata=metadata)
    return caught.value.code(), reason_of(caught.value)


def claims(desk: Desk, **changes: Any) -> dict[str, Any]:
    """Return an operator's claims, changed; a claim of None is left out."""
    known = jwt.decode(desk.token, options={"verify_signature": False}) | changes
    return {name: value for name, value in known.items() if value is not None}


def sign(desk: Desk, changed: dict[str, Any]) -> str:
    """Return a token with these claims that the service's key has signed."""
    return jwt.encode(changed, desk.issuer.key, "HS256", headers={"kid": "development"})


async def test_every_method_is_for_operators_only(desk: Desk) -> None:
    """Without a token UNAUTHENTICATED, without the role PERMISSION_DENIED, for each method."""
    buyer = authorization(desk.issuer.token("buyer-1"))
    for method in METHODS:
        missing = (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_MISSING")
        assert await refusal(desk, method, ()) == missing, method
        not_allowed = (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
        assert await refusal(desk, method, buyer) == not_allowed, method


async def test_only_a_list_with_the_role_is_the_role(desk: Desk) -> None:
    """A text that contains the word, or any other shape, makes no operator."""
    shapes: tuple[Any, ...] = (
        [],
        ["Operator"],
        "operator",
        "operators",
        {"operator": 1},
        7,
        [["operator"]],
    )
    for roles in shapes:
        metadata = authorization(sign(desk, claims(desk, roles=roles)))
        code, reason = await refusal(desk, "ListWebhookEndpoints", metadata)
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED"), roles


async def test_token_that_proves_nothing_is_unauthenticated(desk: Desk) -> None:
    """Expired, of another issuer, for another audience, without a subject, or no JWT at all."""
    changes: list[dict[str, Any]] = [
        {"exp": 1},
        {"exp": None},
        {"exp": float("inf")},
        {"iss": "https://elsewhere.example"},
        {"aud": "another"},
        {"sub": "two words"},
        {"sub": ""},
    ]
    tokens = [sign(desk, claims(desk, **change)) for change in changes]
    for token in (*tokens, "nonsense", *["x" * 9_000] * 10):
        code, reason = await refusal(desk, "ListWebhookEndpoints", authorization(token))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_INVALID"), token[:99]


async def test_unconfigured_service_names_the_missing_setting(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> None:
    """PERMISSION_DENIED, with the setting in ErrorInfo, whatever the token; buyers are served."""
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
        order_operator_jwks="",
    ) as desk:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.stub.AuditSale(pb.AuditSaleRequest(sku="phone"), metadata=desk.metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        info = details(caught.value)["ErrorInfo"]
        assert info.reason == "NOT_ALLOWED"
        assert info.metadata["setting"] == "SECKILL_ORDER_OPERATOR_JWKS"
        shown = await desk.command("dlq", "list", fails=True)
        assert "SECKILL_ORDER_OPERATOR_JWKS" in shown


async def test_keys_that_cannot_be_fetched_close_the_admin_service_only(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> None:
    """The service starts and is ready without its identity provider; operators are told."""
    async with open_desk(
        stores,
        database_dsn=database_dsn,
        redis_url=redis_url,
        topics=topics,
        secrets=tmp_path,
        order_operator_jwks="http://127.0.0.1:1/keys",
    ) as desk:
        code, reason = await refusal(desk, "ListWebhookEndpoints", desk.metadata)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")


async def test_new_key_is_read_when_a_token_names_it(desk: Desk) -> None:
    """A key set is reloaded for an unknown key, though not more often than every ten seconds."""
    key = os.urandom(32)
    document = json.loads(desk.issuer.jwks_path.read_text())
    encoded = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
    document["keys"].append({"kty": "oct", "kid": "new", "alg": "HS256", "k": encoded})
    desk.issuer.jwks_path.write_text(json.dumps(document))
    token = jwt.encode(claims(desk), key, "HS256", headers={"kid": "new"})
    assert (await refusal(desk, "ListWebhookEndpoints", authorization(token)))[1] == (
        "IDENTITY_INVALID"
    )


def test_production_refuses_symmetric_operator_keys(tmp_path: Path) -> None:
    """At start, naming the setting; the development profile takes them."""
    values = STORES | {
        "order_operator_jwks": str(load_or_create(tmp_path).jwks_path),
        "order_operator_jwt_issuer": "https://issuer.example",
    }
    OrderSettings(profile="development", **values)
    with pytest.raises(ValidationError, match="symmetric keys"):
        OrderSettings(profile="production", **values)


def test_operator_keys_need_an_issuer(tmp_path: Path) -> None:
    """Keys without the issuer that tokens must name are refused at start."""
    values = STORES | {"order_operator_jwks": str(load_or_create(tmp_path).jwks_path)}
    with pytest.raises(ValidationError, match="SECKILL_ORDER_OPERATOR_JWKS"):
        OrderSettings(profile="development", **values)


async def test_token_of_the_command_line_opens_the_admin_service(desk: Desk) -> None:
    """`seckill token NAME --role operator` prints what `--token` takes."""
    status, token = await desk.run(
        "token", "olga", "--role", "operator", "--secrets", str(desk.issuer.jwks_path.parent)
    )
    assert status == 0
    shown = await desk.command("webhook", "endpoints", "--token", token.strip())
    assert "endpoint" in shown


async def test_command_without_a_token_says_where_to_give_one(desk: Desk) -> None:
    """An address that is not the local stack's gets no token of the local stack."""
    for arguments in (("dlq", "list"), ("webhook", "endpoints"), ("audit", "--sku", "phone")):
        shown = await desk.command(*arguments, "--token", "", fails=True)
        assert "SECKILL_OPERATOR_TOKEN" in shown
        assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("target", ["", "ipv4:{0}", "dns:///{0}", "ipv4:{0},{0}"])
async def test_local_stack_mints_the_token_by_itself(
    desk: Desk, tmp_path: Path, target: str
) -> None:
    """Beside a running local stack no address and no token need be given; its own may be."""
    directory = tmp_path / "stack"
    (directory / "secrets").mkdir(parents=True)
    for name in ("jwks.json", "purchase-token-keys"):
        secret = desk.issuer.jwks_path.with_name(name)
        (directory / "secrets" / name).write_text(secret.read_text())
    order = RunningProcess(name="order", pid=os.getpid(), address=desk.address, log="none")
    StackState(
        supervisor_pid=os.getpid(),
        started_at="2026-11-11T00:00:00+00:00",
        stores=Stores("", "", ""),
        components={},
        processes=(order,),
    ).write(directory)
    lock = DirectoryLock(directory, claimed_by=STACK)
    lock.acquire()
    try:
        env = {
            "SECKILL_LOCAL_DIR": str(directory),
            "SECKILL_ORDER_TARGET": target.format(desk.address),
            "SECKILL_OPERATOR_TOKEN": "",
        }
        status, shown = await desk.run("webhook", "list", env=env)
    finally:
        lock.release()
    assert (status, "0 deliveries" in shown) == (0, True), shown
