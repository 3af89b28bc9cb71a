"""Every method of the gateway answers any JSON with what errors.proto documents."""

import http.client
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from hypothesis import given
from hypothesis import strategies as st

from gateway.front.rest.answers import HTTP_STATUS
from seckill.v1 import gateway_pb2
from tests.kits.any_caller import DOCUMENTED, TRANSIENT, TRIES, AnyCaller
from tests.kits.any_message import TEXTS, Known
from tests.kits.property_profile import PROFILE

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
# A provider's callback has a body of any kind, which is no JSON of ours.
METHODS = [
    method
    for method in SERVICE.methods
    if not method.server_streaming and method.name != "ReceivePaymentCallback"
]
CALL_S = 20.0
# Bytes that are no JSON object, and objects that no parser should take.
RAW = [
    *(b"", b"{", b"[]", b"null", b"\xff", b'"\\ud800"', b"[" * 5_000, b'{"a":' * 2_000),
    *(b'{"sku":"a","sku":"b"}', b'{"sku":1e999}', b'{"sku":' + b"9" * 5_000 + b"}", b"{}" * 9),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*TEXTS, "\ud800", 2**63, -(2**63), 1e308, math.inf])
    | st.text(max_size=8)
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def bodies(kind: Descriptor, known: Known) -> st.SearchStrategy[bytes]:
    """Return bodies for a request of this type: some right fields, some of any kind."""
    names = [field.name for field in kind.fields] + [field.json_name for field in kind.fields]
    values = {
        name: st.sampled_from(known[name]) if name in known else ANY
        for name in dict.fromkeys(names)
    }
    right = st.fixed_dictionaries({}, optional=values)
    wild = st.dictionaries(st.sampled_from([*names, "qty", "", "\0"]), ANY, max_size=4)
    dumped = (right | wild).map(lambda body: json.dumps(body).encode())
    return dumped | st.sampled_from(RAW)


@pytest.fixture
def connection(caller: AnyCaller) -> Iterator[http.client.HTTPConnection]:
    """To the gateway's own port."""
    host, _, port = caller.mesh.address("gateway").rpartition(":")
    opened = http.client.HTTPConnection(host, int(port), timeout=CALL_S)
    yield opened
    opened.close()


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, Any]:
    """Return HTTP status and the JSON of the answer."""
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_json_has_a_documented_answer(
    caller: AnyCaller, connection: http.client.HTTPConnection, method: MethodDescriptor
) -> None:
    """200, or the status of a documented reason; never 500, and no traceback in a log."""
    path = f"/{SERVICE.full_name}/{method.name}"
    statuses = {code.name: status for code, status in HTTP_STATUS.items()}

    @PROFILE
    @given(body=bodies(method.input_type, caller.known), role=st.sampled_from([0, 0, 3]))
    def check(body: bytes, role: int) -> None:
        for _ in range(TRIES):
            status, answer = ask(connection, path, body, dict(caller.identity(role)))
            if status == 200:
                return
            (info, *_) = answer["details"]
            if info["reason"] not in TRANSIENT:
                break
        assert info["reason"] not in TRANSIENT | {"INTERNAL"}, answer
        # A body that is too large has a status of its own.
        assert status in (statuses[DOCUMENTED[info["reason"]]], 413), answer
        assert not [line for line in caller.new_lines() if "Traceback" in line]

    check()
