"""The few messages of Envoy's discovery protocol that a lease needs, declared here.

Field numbers are those of envoy/service/discovery/v3/discovery.proto and
envoy/service/runtime/v3/rtds.proto; fields that are not used are left out, and pass unread.
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "envoy.edge.lease"
FIELD = descriptor_pb2.FieldDescriptorProto
ANY = ".google.protobuf.Any"
# Message → its fields: name, number, type, whether it is repeated.
MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "DiscoveryRequest": (
        ("version_info", 1, "string", False),
        ("type_url", 4, "string", False),
        ("response_nonce", 5, "string", False),
        # google.rpc.Status where the last answer was refused.
        ("error_detail", 6, "bytes", False),
    ),
    "DiscoveryResponse": (
        ("version_info", 1, "string", False),
        ("resources", 2, ANY, True),
        ("type_url", 4, "string", False),
        ("nonce", 5, "string", False),
    ),
    "Resource": (
        ("version", 1, "string", False),
        ("resource", 2, ANY, False),
        ("name", 3, "string", False),
        ("ttl", 6, ".google.protobuf.Duration", False),
    ),
    "Runtime": (
        ("name", 1, "string", False),
        ("layer", 2, ".google.protobuf.Struct", False),
    ),
}
RUNTIME_URL = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
RESOURCE_URL = "type.googleapis.com/envoy.service.discovery.v3.Resource"
SERVICE = "envoy.service.runtime.v3.RuntimeDiscoveryService"
METHOD = "StreamRuntime"


def _declare() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="deploy/edge/lease.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[module.DESCRIPTOR.name for module in (any_pb2, duration_pb2, struct_pb2)],
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            if kind.startswith("."):
                message.field.add(
                    name=field,
                    number=number,
                    label=label,
                    type=FIELD.TYPE_MESSAGE,
                    type_name=kind,
                )
            else:
                scalar = FIELD.TYPE_STRING if kind == "string" else FIELD.TYPE_BYTES
                message.field.add(name=field, number=number, label=label, type=scalar)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES
    }


_classes = _declare()
DiscoveryRequest: Any = _classes["DiscoveryRequest"]


def runtime_response(layer: str, values: dict[str, Any], *, version: str, ttl_s: float) -> bytes:
    """A serialized DiscoveryResponse: a runtime layer that ends by itself.

    Args:
        layer: its name.
        values: runtime keys and what they are.
        version: of this answer; also its nonce.
        ttl_s: after so many seconds Envoy forgets the values, unless another answer has come.
    """
    runtime = _classes["Runtime"](name=layer)
    runtime.layer.update(values)
    resource = _classes["Resource"](name=layer, version=version)
    resource.resource.type_url = RUNTIME_URL
    resource.resource.value = runtime.SerializeToString()
    resource.ttl.FromNanoseconds(int(ttl_s * 1e9))
    response = _classes["DiscoveryResponse"](
        version_info=version, type_url=RUNTIME_URL, nonce=version
    )
    packed = response.resources.add()
    packed.type_url = RESOURCE_URL
    packed.value = resource.SerializeToString()
    return bytes(response.SerializeToString())
