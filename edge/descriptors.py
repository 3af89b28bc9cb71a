"""Contracts with all that they refer to."""

from collections.abc import Iterable

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor


def descriptor_set(roots: Iterable[FileDescriptor]) -> descriptor_pb2.FileDescriptorSet:
    """Return these files, each after what it imports."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for root in roots:
        _add(root, files)
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def _add(file: FileDescriptor, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if file.name in files:
        return
    for imported in file.dependencies:
        _add(imported, files)
    files[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
