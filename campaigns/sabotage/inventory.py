"""Bugs planted in inventory_svc: the scripts, the relay, the rebuild."""

from campaigns.sabotage.edits import Edit, Sabotage

RESERVE = "inventory_svc/lua/reserve.lua"
RELEASE = "inventory_svc/lua/release.lua"
LEND = "inventory_svc/lua/lend.lua"
TAKE = "inventory_svc/lua/take.lua"
RELAY = "inventory_svc/outbox/relay.py"
SENDER = "inventory_svc/outbox/sender.py"
SCRIPTS = "inventory_svc/stock/scripts.py"
# reserve.lua's refusal when too many reservations wait.
CAP = "if reservations - (entries - length) >= backlog_max then"
REBUILD = "inventory_svc/sales/rebuild.py"


def _promise_instead(failure: str, *, name: str, says: str) -> Sabotage:
    """A bug by which reserve.lua has reserved everything when ScriptRunner says `failure`."""
    promise = (
        "if script is RESERVE: return [0, 0, *(word for number in args[6::4]"
        " for word in (1, str(number).encode()))]"
    )
    indent = failure[: -len(failure.lstrip())]
    edit = Edit(SCRIPTS, failure, f"{indent}{promise}\n{failure}")
    return Sabotage(name=name, says=says, edits=(edit,))


SABOTAGES = (
    Sabotage(
        name="lent-and-kept",
        says="A bucket that lends units to another one sells them all the same.",
        edits=(Edit(LEND, "call('DECRBY', stock_key, units)\n", ""),),
    ),
    Sabotage(
        name="taken-and-lost",
        says="A bucket that borrows units does not sell them.",
        edits=(Edit(TAKE, "call('INCRBY', stock_key, units)\n", ""),),
    ),
    Sabotage(
        name="stock-not-looked-at",
        says="reserve.lua sells without looking at what is left.",
        edits=(Edit(RESERVE, "elseif quantity > left then", "elseif false then"),),
    ),
    Sabotage(
        name="units-counted-as-orders",
        says="reserve.lua takes one unit an order from the counter, however many it sold.",
        edits=(
            Edit(
                RESERVE,
                "call('DECRBY', stock_key, stock - left)",
                "call('DECRBY', stock_key, queued)",
            ),
        ),
    ),
    Sabotage(
        name="dedupe-forgotten",
        says="reserve.lua does not remember who bought.",
        edits=(Edit(RESERVE, "  call('HSET', users_key, unpack(writes))\n", ""),),
    ),
    Sabotage(
        name="request-forgotten",
        says="reserve.lua does not know a repeated request from a second purchase.",
        edits=(
            Edit(
                RESERVE,
                "local told_no, told_quantity = held_no, held_quantity\n",
                "local told_no, told_quantity\n    held_request = ''\n",
            ),
        ),
    ),
    Sabotage(
        name="outbox-of-the-first",
        says="reserve.lua queues the first reservation of a batch and forgets the others.",
        edits=(
            Edit(
                RESERVE,
                "table.concat(lines, '\\n')",
                "table.concat(lines, '\\n', 1, 2)",
            ),
        ),
    ),
    Sabotage(
        name="reseed-in-the-script",
        says="reserve.lua takes a missing counter for a sale that has sold nothing.",
        edits=(
            Edit(
                RESERVE,
                "local stock = tonumber(call('GET', stock_key))",
                "local stock = tonumber(call('GET', stock_key)"
                " or call('HGET', sale_key, 'total')\n"
                "  and call('SET', stock_key, call('HGET', sale_key, 'total'))"
                " and call('GET', stock_key))",
            ),
        ),
    ),
    Sabotage(
        name="backlog-without-a-cap",
        says="reserve.lua goes on selling however many reservations wait for Kafka.",
        edits=(Edit(RESERVE, CAP, "if false then"),),
    ),
    Sabotage(
        name="backlog-in-batches",
        says="reserve.lua compares the cap with the batches that wait for Kafka.",
        edits=(Edit(RESERVE, CAP, "if length >= backlog_max then"),),
    ),
    Sabotage(
        name="backlog-that-only-grows",
        says="remove.lua does not count what it takes off the outbox.",
        edits=(
            Edit(
                "inventory_svc/lua/remove.lua",
                "    reservations = reservations - ARGV[at + 1]\n",
                "",
            ),
        ),
    ),
    Sabotage(
        name="trimmed-still-counted",
        says="remove.lua goes on counting entries that others have trimmed.",
        edits=(Edit("inventory_svc/lua/remove.lua", "if before < entries then", "if false then"),),
    ),
    Sabotage(
        name="write-before-check",
        says="reserve.lua writes holds before it has seen that the outbox can be written.",
        edits=(
            Edit(
                RESERVE,
                "local length, counted = call('XLEN', outbox_key),"
                " call('HMGET', backlog_key, 'entries', 'reservations')",
                "local length, counted = 0, {}",
            ),
            Edit(
                RESERVE,
                "if queued > 0 then\n",
                "if queued > 0 then\n  call('HSET', users_key, unpack(writes))\n",
            ),
        ),
    ),
    Sabotage(
        name="rebuy-forgotten",
        says="reserve.lua refuses a buyer who cancelled, whatever the sale's policy says.",
        edits=(Edit(RESERVE, "elseif not rebuy and not closed_code and", "elseif"),),
    ),
    Sabotage(
        name="rejection-counts",
        says="release.lua marks the hold of an order that we rejected as given up by its buyer.",
        edits=(Edit(RELEASE, "ARGV[at], ARGV[at + 2] == '1'", "ARGV[at], false"),),
    ),
    Sabotage(
        name="earlier-request-forgotten",
        says="reserve.lua does not keep the hold that a buyer's next purchase replaces.",
        edits=(Edit(RESERVE, "        keep_past(user, sub(hold, 2))\n", ""),),
    ),
    Sabotage(
        name="quantity-not-compared",
        says="reserve.lua answers a request that comes again with another quantity as the first.",
        edits=(
            Edit(
                RESERVE,
                "if tonumber(told_quantity) == tonumber(quantity_text) then",
                "if true then",
            ),
        ),
    ),
    Sabotage(
        name="other-sku-not-noticed",
        says="A request id that was reserved for one sku buys of another one.",
        edits=(
            Edit(
                "inventory_svc/stock/stock.py",
                "        foreign = self._request_skus.of_another_sku(sku, items)\n",
                "        foreign: set[int] = set()\n",
            ),
        ),
    ),
    Sabotage(
        name="stop-refused-when-full",
        says="Scripts are loaded without what lets a full Redis run them.",
        edits=(Edit(SCRIPTS, "if not self._allow_oom:", "if True:"),),
    ),
    Sabotage(
        name="release-blind",
        says="release.lua gives units back without looking whether the hold names that order.",
        edits=(
            Edit(
                RELEASE,
                "if hold and not marked[user]"
                " and string.sub(hold, 1, ORDER_NO_LENGTH) == order_no then",
                "if hold then",
            ),
        ),
    ),
    Sabotage(
        name="release-unmarked",
        says="release.lua gives units back and leaves the hold as it is.",
        edits=(Edit(RELEASE, "  call('HSET', users_key, unpack(writes))\n", ""),),
    ),
    Sabotage(
        name="release-keeps-the-units",
        says="release.lua marks the hold and forgets to give its units back.",
        edits=(Edit(RELEASE, "  call('INCRBY', stock_key, returned)\n", ""),),
    ),
    Sabotage(
        name="release-refused-when-full",
        says="release.lua is loaded without the flag that lets a full Redis take units back.",
        edits=(
            Edit(
                SCRIPTS,
                'RELEASE = Script("release", allow_oom=True)',
                'RELEASE = Script("release")',
            ),
        ),
    ),
    Sabotage(
        name="reseed-empty-redis",
        says="Creating a sale again loads its whole stock if Redis has lost it.",
        edits=(Edit("inventory_svc/rpc/sales.py", "if registered.created:", "if registered:"),),
    ),
    Sabotage(
        name="forgotten-script",
        says="A script that Redis has forgotten is not loaded again.",
        edits=(
            Edit(
                SCRIPTS,
                'log.info("script reloaded", script=script.name)',
                "raise",
            ),
        ),
    ),
    _promise_instead(
        '                raise OutcomeUnknown("redis did not answer") from error',
        name="lost-reply-is-a-promise",
        says="When the reply to reserve.lua is lost, buyers are told that they have a unit.",
    ),
    _promise_instead(
        '            raise ScriptRefused("redis refuses the script") from error',
        name="refusal-is-a-promise",
        says="When Redis refuses to run reserve.lua, buyers are told that they have a unit.",
    ),
    _promise_instead(
        '            raise DependencyUnavailable("redis does not answer") from error',
        name="wrong-server-is-a-promise",
        says="When Redis is no primary any more, buyers are told that they have a unit.",
    ),
    Sabotage(
        name="confirmation-ignored",
        says="Buyers are told that they have a unit, however few replicas have confirmed it.",
        edits=(Edit(SCRIPTS, "    if confirmed < confirm.replicas:\n", "    if False:\n"),),
    ),
    Sabotage(
        name="lost-reply-is-a-refusal",
        says="When the reply to a script is lost, callers are told that nothing was written.",
        edits=(
            Edit(SCRIPTS, "if sent and not isinstance(error, BusyLoadingError):", "if not sent:"),
        ),
    ),
    Sabotage(
        name="reply-of-another",
        says="A connection whose caller left goes back to the pool with its reply in flight.",
        edits=(
            Edit(
                SCRIPTS,
                "return await connection.read_response(timeout=math.inf)",
                "return await connection.read_response(\n"
                "        timeout=math.inf, disconnect_on_error=False)",
            ),
        ),
    ),
    Sabotage(
        name="queue-without-a-bound",
        says="Any number of calls may wait for Redis.",
        edits=(
            Edit(
                "inventory_svc/stock/stock.py",
                "if self._waiting >= self._waiting_max:",
                "if False:",
            ),
        ),
    ),
    Sabotage(
        name="xack-before-the-ack",
        says="The relay takes entries off the outbox before Kafka has acknowledged them.",
        edits=(
            Edit(
                SENDER,
                '        await failpoints.reach("relay.before_send")\n',
                "        await self._streams.remove(_entries(records, set()))\n"
                '        await failpoints.reach("relay.before_send")\n',
            ),
        ),
    ),
    Sabotage(
        name="outbox-in-memory",
        says="The relay keeps entries in its memory alone for a second before it sends them.",
        edits=(
            Edit(
                SENDER,
                '        await failpoints.reach("relay.before_send")\n',
                "        await self._streams.remove(_entries(records, set()))\n"
                "        await asyncio.sleep(1.0)\n",
            ),
        ),
    ),
    Sabotage(
        name="failed-send-dropped",
        says="The relay takes entries off the outbox also if sending them failed.",
        edits=(
            Edit(
                SENDER,
                "remove(_entries(delivery.acknowledged, left))",
                "remove(_entries(records, set()))",
            ),
        ),
    ),
    Sabotage(
        name="batch-done-with-its-first",
        says="The relay takes an entry off although some of its reservations are not sent.",
        edits=(
            Edit(
                SENDER,
                "remove(_entries(delivery.acknowledged, left))",
                "remove(_entries(delivery.acknowledged, set()))",
            ),
        ),
    ),
    Sabotage(
        name="batch-dead-lettered-as-a-whole",
        says="The relay dead-letters the whole batch of a reservation that it cannot read.",
        edits=(
            Edit(
                "inventory_svc/outbox/entry.py",
                "    return records, unsendable\n",
                "    return ([], _as_a_whole(entry, 'damaged')) if unsendable else (records, [])\n",
            ),
        ),
    ),
    Sabotage(
        name="old-outbox-forgotten",
        says="The relay does not look at the outbox that version 0.2 has left behind.",
        edits=(
            Edit(
                "inventory_svc/outbox/streams.py",
                "for outbox in outboxes_of(tag)]",
                "for outbox in outboxes_of(tag)[:1]]",
            ),
        ),
    ),
    Sabotage(
        name="idle-outbox-forgotten",
        says="The relay never looks again at an outbox that it has once found empty.",
        edits=(
            Edit(
                RELAY,
                "due = self._rounds.due(now_s=now_s, most=LOOKS_MAX)\n        count",
                "due: list[str] = []\n        count",
            ),
        ),
    ),
    Sabotage(
        name="idle-outbox-read-for-ever",
        says="The relay goes on reading every outbox that has ever had an entry.",
        edits=(
            Edit(
                RELAY,
                "if not reservations and outbox not in self._woken:",
                "if False:",
            ),
        ),
    ),
    Sabotage(
        name="never-claims",
        says="The relay never takes over what a dead one has left unfinished.",
        edits=(
            Edit(
                RELAY,
                "claiming = self._clock.monotonic_s() >= self._next_claim_s",
                "claiming = False",
            ),
        ),
    ),
    Sabotage(
        name="dead-letter-keeps-the-units",
        says="The relay dead-letters an entry that it cannot read, and keeps its units.",
        edits=(Edit(SENDER, "        if records:\n", "        if False:\n"),),
    ),
    Sabotage(
        name="rebuild-forgets-holds",
        says="A rebuild loads the right number of units and no holds.",
        edits=(
            Edit(
                REBUILD,
                "await self._loader.stage(tag, holds, epoch=epoch)",
                "await self._loader.stage(tag, (), epoch=epoch)",
            ),
        ),
    ),
    Sabotage(
        name="rebuild-with-all-units",
        says="A rebuild loads the initial stock.",
        edits=(Edit(REBUILD, "return self._total - self.held", "return self._total"),),
    ),
    Sabotage(
        name="replica-kept",
        says="Connections to a Redis that has become a replica stay in the pool.",
        edits=(
            Edit(
                "seckill/runtime/redis_pool.py",
                "        if self.wrong_server.match(response):\n",
                "        if False:\n",
            ),
        ),
    ),
    Sabotage(
        name="total-not-remembered",
        says="sync.lua adds units to the counter and forgets that it has.",
        edits=(
            Edit("inventory_svc/lua/sync.lua", "  call('HSET', sale_key, 'total', total)\n", ""),
        ),
    ),
    Sabotage(
        name="lost-changes-win",
        says="A change that is made after Redis has lost others never gets on record.",
        edits=(
            Edit(
                "inventory_svc/sales/sync.py",
                "            if not answer.superseded:\n",
                "            if answer.superseded or True:\n",
            ),
        ),
    ),
    Sabotage(
        name="stale-store-trusted",
        says="Any Redis may promise units, whatever the order service says of it.",
        edits=(
            Edit(
                "inventory_svc/fence/lease.py",
                "        return self._open or (server == self._run_id and self.holds)\n",
                "        return True\n",
            ),
        ),
    ),
    Sabotage(
        name="lease-without-an-end",
        says="A Redis that was confirmed once may promise units until another answer comes.",
        edits=(
            Edit(
                "inventory_svc/fence/lease.py",
                "self._from_s <= self._clock.monotonic_s() < self._until_s",
                "self._from_s <= self._clock.monotonic_s()",
            ),
        ),
    ),
    Sabotage(
        name="unconfirmed-sent",
        says="The relay sends what no replica has confirmed.",
        edits=(
            Edit(
                "inventory_svc/outbox/streams.py",
                "        if confirmed < wanted.replicas:\n",
                "        if False:\n",
            ),
        ),
    ),
)
