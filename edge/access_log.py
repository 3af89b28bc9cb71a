"""The access log: what of a call is logged, never a token, a body, or a query."""

from edge.errors import is_grpc
from edge.settings import EdgeSettings
from edge.typed import Json, extension

FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "call",
    "service": "edge",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "upstream": "%UPSTREAM_HOST%",
    # Under one of these two the services' logs have the call, the trace's if there is one.
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
}
# gRPC statuses that are faults of the mesh; those that the caller causes are not logged.
GRPC_FAULTS = ["UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
# Calls that last as long as their callers like.
WATCHES = r".*(:watch|/WatchOrder)(\?.*)?"


def access_log(settings: EdgeSettings) -> list[Json]:
    """Return the log on standard output, one JSON object a call; none if it is off."""
    if settings.edge_access_log == "off":
        return []
    log = extension(
        "envoy.access_loggers.stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        log_format={"json_format": FIELDS},
    )
    if settings.edge_access_log == "faults":
        log["filter"] = {"or_filter": {"filters": _faults(settings)}}
    return [log]


def _faults(settings: EdgeSettings) -> list[Json]:
    slow_ms = int(settings.edge_slow_s * 1000)
    slow = {"duration_filter": {"comparison": _at_least(slow_ms, "edge.log_slow_ms")}}
    # Envoy infers a gRPC status also where there is none: of any JSON with 200, UNKNOWN.
    grpc_fault = {"grpc_status_filter": {"statuses": GRPC_FAULTS}}
    return [
        {"status_code_filter": {"comparison": _at_least(500, "edge.log_status")}},
        {"and_filter": {"filters": [slow, _is_no_watch()]}},
        {"and_filter": {"filters": [*is_grpc(), grpc_fault]}},
    ]


def _is_no_watch() -> Json:
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": WATCHES}}}
    return {"header_filter": {"header": {**path, "invert_match": True}}}


def _at_least(value: int, runtime_key: str) -> Json:
    return {"op": "GE", "value": {"default_value": value, "runtime_key": runtime_key}}
