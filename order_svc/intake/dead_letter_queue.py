"""What operators do with dead letters: list, show, redrive, drop.

What was done is a message of its own on the same topic, naming the letter it settles: it needs no
other store, and lasts as long as the letters do.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from order_svc.intake.dead_letter_topic import (
    SETTLED_TYPE,
    Action,
    DeadLetterTopic,
    Position,
    SettlementIndex,
    StoredDeadLetter,
    open_dead_letter_topic,
)
from order_svc.settings import OrderSettings
from order_svc.settling import SettleResult
from seckill.errors import DeadLetterNotFound
from seckill.runtime.clock import Clock
from seckill.runtime.kafka_writer import KafkaWriter, Message, open_writer

# For everything that one call reads from the topic.
READ_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class DeadLetterPage:
    """A page of letters.

    Attributes:
        letters: by position.
        more: whether there are further letters behind the last one.
        settled: how many letters on the topic are settled, on this page or not.
    """

    letters: Sequence[StoredDeadLetter]
    more: bool
    settled: int


class DeadLetterQueue:
    """Reads and settles letters, one call at a time. Raises DependencyUnavailable without Kafka."""

    def __init__(self, settings: OrderSettings, writer: KafkaWriter, clock: Clock) -> None:
        self._cluster = settings.kafka_cluster()
        self._topic = settings.dead_letter_topic
        self._writer = writer
        self._clock = clock
        self._index = SettlementIndex()
        # Guards the index; the first scan of a full topic costs seconds.
        self._lock = asyncio.Lock()

    async def page(
        self, *, include_settled: bool, cause: str, after: Position | None, limit: int
    ) -> DeadLetterPage:
        """Return up to `limit` letters.

        Args:
            include_settled: settled letters, too.
            cause: only letters with this cause; "" for all.
            after: only letters behind this position; None for all.
            limit: at most so many.
        """
        letters: list[StoredDeadLetter] = []
        async with self._open() as topic:
            async for letter in topic.letters(after=after):
                if letter.settlement is not None and not include_settled:
                    continue
                if cause and letter.header("error_cause") != cause:
                    continue
                if len(letters) == limit:
                    return DeadLetterPage(letters, more=True, settled=len(self._index))
                letters.append(letter)
        return DeadLetterPage(letters, more=False, settled=len(self._index))

    async def of_orders(self, order_nos: Collection[str], *, limit: int) -> list[StoredDeadLetter]:
        """Return up to `limit` letters about these orders, settled or not."""
        found: list[StoredDeadLetter] = []
        if not order_nos:
            return found
        async with self._open() as topic:
            async for letter in topic.letters(after=None):
                if letter.header("order_no") in order_nos:
                    found.append(letter)
                if len(found) == limit:
                    break
        return found

    async def get(self, position: Position) -> StoredDeadLetter:
        """Return one letter; raises DeadLetterNotFound."""
        async with self._open() as topic:
            found = await topic.letters_at({position})
        if position not in found:
            raise DeadLetterNotFound(f"there is no letter {position}")
        return found[position]

    async def redrive(
        self, positions: Sequence[Position], *, operator: str
    ) -> SettleResult[Position]:
        """Write the messages of letters to the topics they came from, then note that.

        A crash in between leaves the letters open: redriving them again changes nothing, because
        the order number is the identity of what a message becomes.

        Args:
            positions: of the letters; those that are settled, came from no topic, or have their
                order on record are refused.
            operator: who does so.
        """
        result = SettleResult[Position]()
        messages: dict[str, list[Message]] = defaultdict(list)
        notes: list[Message] = []
        async with self._open() as topic:
            for letter in await _open_letters(topic, positions, result):
                problem = _why_not_redriven(letter)
                if problem:
                    result.refused[letter.position] = problem
                    continue
                origin = ("redriven_from", f"{self._topic} {letter.position}".encode())
                to = letter.header("original_topic")
                messages[to].append(Message(letter.key, letter.value, [origin]))
                notes.append(self._note(letter, "redriven", f"to {to}", operator))
        for to, batch in messages.items():
            await self._writer.write(to, batch)
        return await self._settle(notes, result)

    async def drop(
        self, positions: Sequence[Position], *, note: str, operator: str
    ) -> SettleResult[Position]:
        """Note that nothing is to be done about letters, and why.

        Args:
            positions: of the letters; settled ones are refused.
            note: why.
            operator: who says so.
        """
        result = SettleResult[Position]()
        async with self._open() as topic:
            letters = await _open_letters(topic, positions, result)
        notes = [self._note(letter, "dropped", note, operator) for letter in letters]
        return await self._settle(notes, result)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[DeadLetterTopic]:
        async with (
            self._lock,
            open_dead_letter_topic(
                self._cluster, self._topic, index=self._index, timeout_s=READ_TIMEOUT_S
            ) as topic,
        ):
            yield topic

    async def _settle(
        self, notes: Sequence[Message], result: SettleResult[Position]
    ) -> SettleResult[Position]:
        if notes:
            await self._writer.write(self._topic, notes)
            result.settled = len(notes)
        return result

    def _note(self, letter: StoredDeadLetter, action: Action, note: str, operator: str) -> Message:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_source": "/seckill/order_svc",
            "ce_type": SETTLED_TYPE,
            "ce_time": datetime.fromtimestamp(self._clock.now_s(), UTC).isoformat(
                timespec="milliseconds"
            ),
            "settles": str(letter.position),
            "action": action,
            "note": note,
            "operator": operator,
        }
        return Message(letter.key, None, [(name, text.encode()) for name, text in headers.items()])


async def _open_letters(
    topic: DeadLetterTopic, positions: Sequence[Position], result: SettleResult[Position]
) -> list[StoredDeadLetter]:
    """Return those of the letters that are open; `result` learns why others are not."""
    letters = []
    wanted = sorted(set(positions))
    found = await topic.letters_at(set(wanted))
    for position in wanted:
        letter = found.get(position)
        if letter is None:
            result.refused[position] = f"there is no letter {position}"
        elif letter.settlement is not None:
            done = letter.settlement
            result.refused[position] = f"letter {position} was {done.action} at {done.at}"
        else:
            letters.append(letter)
    return letters


def _why_not_redriven(letter: StoredDeadLetter) -> str:
    """Return why redriving is refused, "" if it is not."""
    if not letter.header("original_topic"):
        return f"letter {letter.position} came from no topic: redriving needs one"
    if letter.header("units") in {"returned", "ordered"}:
        return (
            f"order {letter.header('order_no')} of letter {letter.position} is on record"
            f" already ({letter.header('advice')}): redriving would change nothing"
        )
    return ""


@asynccontextmanager
async def open_dead_letter_queue(
    settings: OrderSettings, clock: Clock
) -> AsyncIterator[DeadLetterQueue]:
    """Open a queue whose producer is closed at the end, and connects at the first settlement."""
    async with open_writer(
        settings.kafka_cluster(), timeout_s=settings.order_kafka_timeout_s
    ) as writer:
        yield DeadLetterQueue(settings, writer, clock)
