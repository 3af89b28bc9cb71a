"""Every method answers any request with what errors.proto documents."""

import pytest
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import given
from hypothesis import strategies as st

from seckill.v1 import inventory_pb2
from tests.kits.any_caller import AnyCaller, methods, problem
from tests.kits.any_message import requests
from tests.kits.property_profile import PROFILE

METHODS = list(methods())
SET_KILL_SWITCH = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"].methods_by_name[
    "SetKillSwitch"
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("process", "method"),
    METHODS,
    ids=[f"{method.containing_service.name}.{method.name}" for _, method in METHODS],
)
def test_any_request_has_a_documented_answer(
    caller: AnyCaller, process: str, method: MethodDescriptor
) -> None:
    """OK, or a status with its reason and the field; never INTERNAL, and no traceback in a log."""
    kind = method.input_type

    @PROFILE
    @given(payload=requests(kind, caller.known), role=st.integers(0, 3))
    def check(payload: bytes, role: int) -> None:
        answer = caller.ask(process, method, payload, role)
        wrong = problem(kind, answer)
        assert not wrong, (answer, wrong)
        lines = caller.new_lines()
        assert not [line for line in lines if "Traceback" in line]

    try:
        check()
    finally:
        # Selling goes on for the next method.
        off = inventory_pb2.SetKillSwitchRequest().SerializeToString()
        caller.ask("inventory", SET_KILL_SWITCH, off, 2)
