"""The operators' log: every call that may change something, who made it, and with which request.

One JSON object a line, whatever became of the call: on Envoy's standard output, which is kept, and
in a file of the edge's folder, from which the agent answers the console. Bodies of the public are
never logged; those of operators are what they did.
"""

from pathlib import Path

from edge.access_log import FIELDS
from edge.operators.methods import methods
from edge.settings import EdgeSettings
from edge.typed import Json, extension

LUA = "envoy.filters.http.lua"
JWT = "envoy.filters.http.jwt_authn"
CLAIMS = "operator"
LOG_FILE = "operators.log"
# Characters of a request in the log.
REQUEST_MAX = 4_096
# Runs once the caller is known to be an operator, so what is kept is what an operator sent.
KEEP_REQUEST = f"""
function envoy_on_request(handle)
  local body = handle:body()
  if body ~= nil then
    local length = math.min(body:length(), {REQUEST_MAX})
    handle:streamInfo():dynamicMetadata():set("{LUA}", "request", body:getBytes(0, length))
  end
end
"""


def keep_request() -> Json:
    """Return the filter that keeps a request for the log."""
    return extension(
        LUA,
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": KEEP_REQUEST},
    )


def log_path(settings: EdgeSettings) -> Path:
    """Return the path of the file."""
    return settings.edge_directory / LOG_FILE


def older_log_path(path: Path) -> Path:
    """Return where the file goes when it is full."""
    return path.with_name(f"{path.name}.1")


def operators_log(settings: EdgeSettings) -> list[Json]:
    """Return the log of changes, in both places."""
    changes = "|".join(method.path for method in methods() if method.changes)
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": f"(?:{changes})"}}}
    fields = {
        **FIELDS,
        "event": "operator",
        "operator": f"%DYNAMIC_METADATA({JWT}:{CLAIMS}:sub)%",
        "request": f"%DYNAMIC_METADATA({LUA}:request)%",
    }
    form = {"log_format": {"json_format": fields}}
    logs = (
        extension(
            "envoy.access_loggers.stdout",
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            **form,
        ),
        extension(
            "envoy.access_loggers.file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(log_path(settings)),
            **form,
        ),
    )
    return [{**log, "filter": {"header_filter": {"header": path}}} for log in logs]
