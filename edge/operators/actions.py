"""OperatorLogService: what operators did through this edge, read from Envoy's log."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import grpc

from edge.operators.log import older_log_path
from seckill.v1 import operator_log_pb2, operator_log_pb2_grpc
from seckill.validation import decode_page_token, encode_page_token, page_size

# What is read of each file, from its end: some ten thousand calls.
READ_BYTES_MAX = 8 * 1024 * 1024
KEY = re.compile(r"[!-~]{1,128}")

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorLog(operator_log_pb2_grpc.OperatorLogServiceServicer):
    """Answers from the log, latest first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        operator_log_pb2_grpc.add_OperatorLogServiceServicer_to_server(self, server)

    async def ListOperatorActions(
        self,
        request: operator_log_pb2.ListOperatorActionsRequest,
        context: Context,  # noqa: ARG002 - the contract of gRPC
    ) -> operator_log_pb2.ListOperatorActionsResponse:
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, KEY)
        found = await asyncio.to_thread(_page, self._path, after, size + 1)
        token = encode_page_token(found[size - 1].request_id) if len(found) > size else ""
        return operator_log_pb2.ListOperatorActionsResponse(
            actions=found[:size], next_page_token=token
        )


def _page(path: Path, after: str, count: int) -> list[operator_log_pb2.OperatorAction]:
    """Return calls that came before the one with the id `after`; the latest if it is empty."""
    actions = _latest_first(path)
    if after:
        actions = islice(dropwhile(lambda action: action.request_id != after, actions), 1, None)
    return list(islice(actions, count))


def _latest_first(path: Path) -> Iterator[operator_log_pb2.OperatorAction]:
    for line in reversed(_last_lines(path)):
        try:
            yield _action(json.loads(line))
        except (ValueError, KeyError, TypeError):
            # The first line read may be cut, and the last one unfinished.
            continue


def _last_lines(path: Path) -> list[bytes]:
    """Return the lines of both files, oldest first."""
    lines: list[bytes] = []
    for each in (older_log_path(path), path):
        with suppress(FileNotFoundError), each.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - READ_BYTES_MAX))
            lines += file.read().splitlines()
    return lines


def _action(fields: dict[str, Any]) -> operator_log_pb2.OperatorAction:
    action = operator_log_pb2.OperatorAction(
        operator=fields.get("operator") or "",
        method=fields["path"],
        request_json=fields.get("request") or "",
        http_status=int(fields["status"] or 0),
        request_id=fields["request_id"] or "",
    )
    action.call_time.FromJsonString(fields["time"])
    return action
