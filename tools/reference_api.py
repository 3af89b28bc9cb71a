"""docs/reference/api.md: every method, message and enum of the contracts, with their comments."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc

from tools.generate import PACKAGE, PROTOS
from tools.markdown import table

# Where a thing stands in its file: field numbers of descriptor.proto and indexes, in turn.
Place: TypeAlias = tuple[int, ...]
Comment: TypeAlias = Callable[[Place, str], str]
MESSAGES, ENUMS, SERVICES = 4, 5, 6
INTRODUCTION = """# API

The contracts in `protos/seckill/v1`, package `seckill.v1`, over gRPC; what has a path is JSON over
HTTP at the edge and at the gateway, too. Errors are a status with `google.rpc.ErrorInfo`, whose
reason is one of [`ErrorReason`](#errorreason).
"""


def page() -> tuple[str, list[str]]:
    """Return the page, and what has no comment."""
    missing: list[str] = []
    parts = [INTRODUCTION]
    for file in _files():
        parts += _sections(file, missing)
    return "\n".join(parts), missing


def _files() -> Sequence[FileDescriptorProto]:
    names = sorted(str(path) for path in (PROTOS / PACKAGE).glob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        options = ["--include_source_info", f"--descriptor_set_out={out}"]
        status = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *options, *names])
        if status != 0:
            raise RuntimeError(f"protoc exited with {status}")
        return FileDescriptorSet.FromString(out.read_bytes()).file


def _sections(file: FileDescriptorProto, missing: list[str]) -> Iterator[str]:
    comments: Mapping[Place, str] = {
        tuple(location.path): location.leading_comments
        for location in file.source_code_info.location
    }

    def comment(place: Place, name: str) -> str:
        text = comments.get(place, "").strip()
        if not text:
            missing.append(f"{file.name}: {name}")
        return text

    for index, service in enumerate(file.service):
        place = (SERVICES, index)
        rows = [
            (*_method(method), _cell(comment((*place, 2, at), method.name)))
            for at, method in enumerate(service.method)
        ]
        yield f"## {service.name}\n\n{_prose(comment(place, service.name))}\n"
        yield table(("method", "request", "response", "JSON", "what it does"), rows)
    for index, message in enumerate(file.message_type):
        yield from _message(message, (MESSAGES, index), message.name, comment)
    for index, enum in enumerate(file.enum_type):
        yield from _enum(enum, (ENUMS, index), comment)


def _method(method: MethodDescriptorProto) -> tuple[str, ...]:
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern") or ""
    json = f"`{verb.upper()} {getattr(rule, verb)}`" if verb else ""
    stream = "stream of " if method.server_streaming else ""
    request, response = _short(method.input_type), _short(method.output_type)
    return f"`{method.name}`", f"`{request}`", f"{stream}`{response}`", json


def _message(message: DescriptorProto, place: Place, name: str, comment: Comment) -> Iterator[str]:
    if message.options.map_entry:
        return
    yield f"## {name}\n\n{_prose(comment(place, name))}\n"
    rows = [
        (
            f"`{field.name}`",
            _type(field, message),
            _cell(comment((*place, 2, at), f"{name}.{field.name}")),
        )
        for at, field in enumerate(message.field)
    ]
    if rows:
        yield table(("field", "type", "meaning"), rows)
    for at, nested in enumerate(message.nested_type):
        yield from _message(nested, (*place, 3, at), f"{name}.{nested.name}", comment)


def _enum(enum: EnumDescriptorProto, place: Place, comment: Comment) -> Iterator[str]:
    yield f"## {enum.name}\n\n{_prose(comment(place, enum.name))}\n"
    rows = [
        (f"`{value.name}`", str(value.number), _cell(comment((*place, 2, at), value.name)))
        for at, value in enumerate(enum.value)
    ]
    yield table(("value", "number", "meaning"), rows)


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entries = {entry.name: entry for entry in message.nested_type if entry.options.map_entry}
    entry = entries.get(_short(field.type_name))
    if entry is not None:
        return "map of " + " to ".join(_type(part, entry) for part in entry.field)
    name = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_")
    shown = f"`{_short(name) if field.type_name else name.lower()}`"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"list of {shown}" if repeated else shown


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _prose(comment: str) -> str:
    return "\n".join(line.strip() for line in comment.splitlines())


def _cell(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")
