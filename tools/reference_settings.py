"""docs/reference/settings.md: every variable that the services, the stack and the command read."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import annotated_types
import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import devstack
import seckill_cli
from devstack import mesh
from edge.settings import EdgeSettings
from gateway.settings import GatewaySettings
from inventory_svc.settings import InventorySettings
from order_svc.settings import OrderSettings
from rollback_svc.settings import RollbackSettings
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.settings import PREFIX, ArrivalSettings, ProcessSettings
from seckill.runtime.store_settings import (
    KafkaSettings,
    PostgresSettings,
    RedisSettings,
    SharedRedisSettings,
)
from seckill.runtime.trace_settings import TraceSettings
from tools.markdown import table

SERVICES: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "inventory_svc": InventorySettings,
    "order_svc": OrderSettings,
    "rollback_svc": RollbackSettings,
    "edge": EdgeSettings,
}
SHARED: dict[str, type[BaseSettings]] = {
    "Every service": ProcessSettings,
    "Traces": TraceSettings,
    "Orders on their way": ArrivalSettings,
    "Redis": RedisSettings,
    "Redis, for looks": ReadSettings,
    "Redis, in every service": SharedRedisSettings,
    "Kafka": KafkaSettings,
    "Postgres": PostgresSettings,
}
UNITS = {
    "_per_s": "a second",
    "_ms": "milliseconds",
    "_s": "seconds",
    "_kb_max": "KiB",
    "_mb": "MiB",
    "_bytes_max": "bytes",
}
BOUNDS = {annotated_types.Gt: ">", annotated_types.Ge: "≥", annotated_types.Lt: "<"}
HEADER = ("variable", "type", "default", "unit", "meaning")
INTRODUCTION = """# Settings

Environment variables, read once at start. A bad value ends the process with one line that names
the variable and the value. A variable that nothing reads is refused by the `production` profile and
logged by `development`; services may share an environment. **required** has no default.
"""
# What the local stack reads, beside the ports of the services: default and meaning.
STACK = {
    "SECKILL_LOCAL_DIR": ("`.seckill`", "Folder of the stack's data, logs, keys and state."),
    "SECKILL_LOCAL_POSTGRES_PORT": ("`0`", "Port of Postgres; 0 picks a free one."),
    "SECKILL_LOCAL_REDIS_PORT": ("`0`", "Port of Valkey; 0 picks a free one."),
    "SECKILL_LOCAL_KAFKA_PORT": ("`0`", "Port of Kafka; 0 picks a free one."),
    "SECKILL_LOCAL_EDGE_PORT": ("`8080`", "Port of Envoy for the public."),
    "SECKILL_LOCAL_EDGE_STATS_PORT": ("`9106`", "Port of Envoy's readiness and metrics."),
    "SECKILL_LOCAL_EDGE_METRICS_PORT": ("`9105`", "Port of the metrics of the edge's agent."),
    "SECKILL_LOCAL_EDGE_OPERATOR_PORT": ("`8081`", "Port of the operators' console."),
    "SECKILL_LOCAL_REPLICAS": ("`1`", "Replicas of each service, as `seckill up --replicas`."),
    "SECKILL_LOCAL_SECURE": ("`0`", "1: services prove who they are, as `seckill up --secure`."),
    "SECKILL_LOCAL_CLUSTER": ("`0`", "1: Redis is a cluster of three masters and three replicas."),
    "SECKILL_CACHE_DIR": ("the user's cache", "Folder of fetched files, e.g. Kafka's."),
    "SECKILL_POSTGRES_DSN": ("starts one", "A Postgres to use instead of a started one."),
    "SECKILL_REDIS_URL": ("starts one", "A Redis or Valkey to use instead of a started one."),
    "SECKILL_KAFKA_BOOTSTRAP": ("starts one", "A Kafka to use instead of a started one."),
}
_LOCAL = re.compile(r'"(SECKILL_(?:LOCAL|CACHE)_[A-Z_]+)"')


def page() -> tuple[str, list[str]]:
    """Return the page, and the settings that have no meaning."""
    missing: list[str] = []
    parts = [INTRODUCTION]
    for title, shared in SHARED.items():
        readers = [name for name, service in SERVICES.items() if issubclass(service, shared)]
        note = "" if title == "Every service" else f"\nRead by {', '.join(readers)}.\n"
        parts.append(f"\n## {title}\n{note}\n{table(HEADER, _fields(shared, missing))}")
    for name, service in SERVICES.items():
        own = [
            kind
            for kind in service.__mro__
            if issubclass(kind, BaseSettings) and kind not in (*SHARED.values(), BaseSettings)
        ]
        rows = [row for kind in own for row in _fields(kind, missing)]
        parts.append(f"\n## {name}\n\n{table(HEADER, rows)}")
    parts.append(f"\n## The local stack\n\n{_stack(missing)}")
    parts.append(f"\n## The `seckill` command\n\n{_command(missing)}")
    return "".join(parts), missing


def _fields(settings: type[BaseSettings], missing: list[str]) -> list[tuple[str, ...]]:
    """Return a row for each field that the class itself declares."""
    rows: list[tuple[str, ...]] = []
    for name, comment in _comments(settings).items():
        field = settings.model_fields[name]
        meaning = comment or field.description or ""
        if not meaning:
            missing.append(f"{settings.__module__}.{settings.__name__}.{name}")
        rows.append(
            (
                f"`{PREFIX}{name.upper()}`",
                _type(field),
                _default(field),
                _unit(name),
                _text(meaning),
            )
        )
    return rows


def _comments(settings: type[BaseSettings]) -> dict[str, str]:
    """Return each field that the class itself declares, with the comment above it.

    Fields that follow without an empty line share the comment, and point to the field below it.
    """
    source = textwrap.dedent(inspect.getsource(settings))
    lines = source.splitlines()
    declared = cast("ast.ClassDef", ast.parse(source).body[0])
    found: dict[str, str] = {}
    meaning, ended = "", 0
    for node in declared.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        above = _comment_above(lines, node.lineno)
        if above:
            meaning = f"With `{PREFIX}{name.upper()}`."
        elif ended != node.lineno - 1:
            meaning = ""
        found[name] = above or meaning
        ended = node.end_lineno or node.lineno
    return found


def _comment_above(lines: list[str], lineno: int) -> str:
    words: list[str] = []
    for line in reversed(lines[: lineno - 1]):
        if not line.strip().startswith("#"):
            break
        words.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(words)


def _type(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    names = {bool: "`true`, `false`", int: "integer", float: "number", SecretStr: "secret"}
    name = names.get(kind, "path" if kind is Path else "text")  # type: ignore[arg-type]
    bounds = [
        f"{sign} {getattr(bound, type(bound).__name__.lower()):,}"
        for bound in field.metadata
        for sign in [{**BOUNDS, annotated_types.Le: "≤"}.get(type(bound), "")]
        if sign
    ]
    return f"{name} {' and '.join(bounds)}".strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`" if value < 1_000 else f"`{value:.0f}`"
    return f"`{value}`" if str(value) else "empty"


def _unit(name: str) -> str:
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def _text(meaning: str) -> str:
    return meaning.replace("|", "\\|").replace("<", "&lt;")


def _stack(missing: list[str]) -> str:
    known = dict(STACK)
    for service in mesh.SERVICES:
        known[service.port_variable] = (f"`{service.port}`", f"Port of the {service.name} service.")
        known[service.metrics_port_variable] = (
            f"`{service.metrics_port}`",
            f"Port of the {service.name} service's metrics.",
        )
    (folder,) = devstack.__path__
    read = {
        variable
        for path in Path(folder).rglob("*.py")
        for variable in _LOCAL.findall(path.read_text(encoding="utf-8"))
    }
    missing += sorted(read - known.keys())
    return table(
        ("variable", "default", "meaning"),
        [(f"`{name}`", default, meaning) for name, (default, meaning) in known.items()],
    )


def _command(missing: list[str]) -> str:
    rows: dict[str, tuple[str, ...]] = {}
    for option in _options(typer.main.get_command(seckill_cli.app)):
        variable = option.envvar
        if not option.help:
            missing.append(variable)
        flags = ", ".join(f"`{flag}`" for flag in option.opts)
        rows[variable] = (f"`{variable}`", flags, _text(option.help or ""))
    return "The same as the option.\n\n" + table(
        ("variable", "option", "meaning"), [rows[variable] for variable in sorted(rows)]
    )


def _options(command: Any) -> Iterator[Any]:
    """Find the options of a command and its subcommands that a variable can set."""
    yield from (param for param in command.params if getattr(param, "envvar", None))
    for child in getattr(command, "commands", {}).values():
        yield from _options(child)
