"""Handles the RPCs about dead letters."""

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from order_svc.intake.dead_letter_queue import DeadLetterQueue
from order_svc.intake.dead_letter_topic import Position, StoredDeadLetter
from order_svc.rpc.notes import check_note
from order_svc.settling import SettleResult
from seckill.v1 import order_admin_pb2 as pb
from seckill.validation import Violations, decode_page_token, encode_page_token

POSITION = re.compile(r"[0-9]{1,9}:[0-9]{1,18}")
CAUSE_MAX = 64
# A page must fit into a gRPC message, whatever is on the topic: letters, characters of their text.
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 100, 200
NAME_CHARACTERS_MAX, ERROR_CHARACTERS_MAX = 128, 1_000
# Letters settled by one call: their messages are in memory at once.
SETTLED_MAX = 100
MESSAGE_BYTES_MAX = 65_536
UNITS = {
    "returned": pb.DEAD_LETTER_UNITS_RETURNED,
    "ordered": pb.DEAD_LETTER_UNITS_ORDERED,
    "held": pb.DEAD_LETTER_UNITS_HELD,
    "unknown": pb.DEAD_LETTER_UNITS_UNKNOWN,
}
ACTIONS = {
    "redriven": pb.DEAD_LETTER_ACTION_REDRIVEN,
    "dropped": pb.DEAD_LETTER_ACTION_DROPPED,
}


class DeadLetterHandlers:
    """Lists, shows and settles dead letters."""

    def __init__(self, queue: DeadLetterQueue) -> None:
        self._queue = queue

    async def list(self, request: pb.ListDeadLettersRequest) -> pb.ListDeadLettersResponse:
        """Handle ListDeadLetters."""
        violations = Violations()
        if request.cause:
            violations.printable("cause", request.cause, CAUSE_MAX)
        violations.between("page_size", request.page_size, 0, PAGE_SIZE_MAX)
        violations.check()
        after = decode_page_token(request.page_token, POSITION)
        page = await self._queue.page(
            include_settled=request.include_settled,
            cause=request.cause,
            after=Position.parse(after) if after else None,
            limit=request.page_size or PAGE_SIZE_DEFAULT,
        )
        token = encode_page_token(str(page.letters[-1].position)) if page.more else ""
        return pb.ListDeadLettersResponse(
            dead_letters=map(_dead_letter, page.letters),
            next_page_token=token,
            settled_count=page.settled,
        )

    async def get(self, request: pb.GetDeadLetterRequest) -> pb.GetDeadLetterResponse:
        """Handle GetDeadLetter."""
        violations = Violations()
        _check_position(violations, "position", request.position)
        violations.check()
        letter = await self._queue.get(Position.parse(request.position))
        message = letter.value or b""
        return pb.GetDeadLetterResponse(
            dead_letter=_dead_letter(letter),
            headers=letter.headers,
            message=message[:MESSAGE_BYTES_MAX],
            message_bytes=len(message),
        )

    async def redrive(
        self, request: pb.RedriveDeadLettersRequest, *, operator: str
    ) -> pb.RedriveDeadLettersResponse:
        """Handle RedriveDeadLetters."""
        positions = _positions(request.positions)
        result = await self._queue.redrive(positions, operator=operator)
        return pb.RedriveDeadLettersResponse(
            redriven_count=result.settled, refused=_refused(result)
        )

    async def drop(
        self, request: pb.DropDeadLettersRequest, *, operator: str
    ) -> pb.DropDeadLettersResponse:
        """Handle DropDeadLetters."""
        check_note(request.note)
        positions = _positions(request.positions)
        result = await self._queue.drop(positions, note=request.note, operator=operator)
        return pb.DropDeadLettersResponse(dropped_count=result.settled, refused=_refused(result))


def _positions(texts: Sequence[str]) -> list[Position]:
    violations = Violations()
    violations.between("positions", len(texts), 1, SETTLED_MAX)
    for index, text in enumerate(texts):
        _check_position(violations, f"positions[{index}]", text)
    violations.check()
    return [Position.parse(text) for text in texts]


def _check_position(violations: Violations, field: str, text: str) -> None:
    if POSITION.fullmatch(text) is None:
        violations.add(field, "must be partition:offset, like 0:12")


def _refused(result: SettleResult[Position]) -> list[pb.RefusedDeadLetter]:
    return [
        pb.RefusedDeadLetter(position=str(position), reason=reason)
        for position, reason in sorted(result.refused.items())
    ]


def _dead_letter(letter: StoredDeadLetter) -> pb.DeadLetter:
    written = Timestamp()
    written.FromMilliseconds(letter.written_ms)
    quantity = letter.header("quantity")
    done = letter.settlement
    settlement = None
    if done is not None:
        settlement = pb.DeadLetterSettlement(
            action=ACTIONS.get(done.action, pb.DEAD_LETTER_ACTION_UNSPECIFIED),
            time=done.at[:NAME_CHARACTERS_MAX],
            note=done.note[:ERROR_CHARACTERS_MAX],
            operator=done.operator[:NAME_CHARACTERS_MAX],
        )
    return pb.DeadLetter(
        position=str(letter.position),
        write_time=written,
        cause=letter.header("error_cause")[:NAME_CHARACTERS_MAX],
        error=letter.header("error")[:ERROR_CHARACTERS_MAX],
        type=letter.header("ce_type")[:NAME_CHARACTERS_MAX],
        order_no=letter.header("order_no")[:NAME_CHARACTERS_MAX],
        sku=letter.header("sku")[:NAME_CHARACTERS_MAX],
        quantity=int(quantity) if re.fullmatch(r"[0-9]{1,9}", quantity) else 0,
        units=UNITS.get(letter.header("units"), pb.DEAD_LETTER_UNITS_UNSPECIFIED),
        settlement=settlement,
    )
