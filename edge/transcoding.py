"""JSON over HTTP: the contracts in the form that Envoy's transcoder reads."""

import base64

from google.api import annotations_pb2
from google.rpc import error_details_pb2, status_pb2

from edge.descriptors import descriptor_set
from edge.settings import EdgeSettings
from edge.typed import Json, extension
from seckill.v1 import challenge_pb2, gateway_pb2

NAME = "envoy.filters.http.grpc_json_transcoder"
PRINTED: Json = {"always_print_primitive_fields": True}
REFUSED: Json = {"reject_unknown_method": True, "reject_unknown_query_parameters": True}
SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name


def contract() -> bytes:
    """Serialize GatewayService with all that it refers to, and the details of statuses."""
    roots = (gateway_pb2, challenge_pb2, error_details_pb2, status_pb2)
    files = descriptor_set(root.DESCRIPTOR for root in roots)
    (gateway,) = (file for file in files.file if file.name == gateway_pb2.DESCRIPTOR.name)
    for service in gateway.service:
        for method in service.method:
            # Envoy does so by itself only for methods without any other path.
            rule = method.options.Extensions[annotations_pb2.http]
            rule.additional_bindings.add(post=f"/{SERVICE}/{method.name}", body="*")
    return files.SerializeToString()


def transcoder(settings: EdgeSettings) -> list[Json]:
    """Return the filter from JSON to gRPC and back, by google.api.http and the methods' paths.

    None if the gateway answers JSON itself.
    """
    if settings.edge_json == "passed":
        return []
    found = extension(
        NAME,
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(contract()).decode(),
        services=[SERVICE],
        # A status becomes google.rpc.Status as JSON, with its details.
        convert_grpc_status=True,
        # The route is chosen by the path that the caller sent.
        match_incoming_request_route=True,
        # The messages of a stream one a line, which fetch() can read as they come.
        print_options={**PRINTED, "stream_newline_delimited": True},
        request_validation_options={
            **REFUSED,
            # The path alone names the sku or the order.
            "reject_binding_body_field_collisions": True,
        },
    )
    return [found]
