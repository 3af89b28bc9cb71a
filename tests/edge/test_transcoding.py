"""Envoy's transcoder knows each message that a status of the mesh can carry."""

from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2

from edge.transcoding import contract
from seckill.v1 import challenge_pb2


def test_details_of_statuses_can_be_written_as_json() -> None:
    """One whose type is unknown there would leave a caller in JSON without all details."""
    files = descriptor_pb2.FileDescriptorSet.FromString(contract()).file
    known = {f"{file.package}.{message.name}" for file in files for message in file.message_type}
    for detail in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.QuotaFailure,
        challenge_pb2.Challenge,
    ):
        assert detail.DESCRIPTOR.full_name in known
