"""What of a call is logged: never a token, a body, or what a caller wrote into his path's query."""

from deploy.edge.settings import EdgeSettings
from deploy.edge.typed import Json, extension

FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "call",
    "stage": "edge",
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
    "request_id": "%REQ(X-REQUEST-ID)%",
}
# gRPC statuses that are our fault; those of the caller's own making are not logged.
GRPC_FAULTS = ["UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]


def access_log(settings: EdgeSettings) -> list[Json]:
    """The log on standard output, one JSON object a call; empty where it is off."""
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
    return [
        {"status_code_filter": {"comparison": _at_least(500, "edge.log_status")}},
        {"duration_filter": {"comparison": _at_least(slow_ms, "edge.log_slow_ms")}},
        {"grpc_status_filter": {"statuses": GRPC_FAULTS}},
    ]


def _at_least(value: int, runtime_key: str) -> Json:
    return {"op": "GE", "value": {"default_value": value, "runtime_key": runtime_key}}
