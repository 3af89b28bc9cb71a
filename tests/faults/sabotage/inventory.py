"""Bugs planted in inventory_svc: the scripts, the relay, the rebuild."""

from tests.faults.sabotage.edits import Edit, Sabotage

RESERVE = "inventory_svc/lua/reserve.lua"
RELEASE = "inventory_svc/lua/release.lua"
RELAY = "inventory_svc/relay.py"
SCRIPTS = "inventory_svc/scripts.py"
REBUILD = "inventory_svc/rebuild.py"


def _promise_instead(failure: str, *, name: str, says: str) -> Sabotage:
    """A bug by which reserve.lua has reserved everything where ScriptRunner says `failure`."""
    promise = (
        "if script is RESERVE: return [0, *(word for number in args[5::4]"
        " for word in (1, str(number).encode()))]"
    )
    indent = failure[: -len(failure.lstrip())]
    edit = Edit(SCRIPTS, failure, f"{indent}{promise}\n{failure}")
    return Sabotage(name=name, says=says, edits=(edit,))


SABOTAGES = (
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
        edits=(Edit(RESERVE, "if held_request == request then", "if false then"),),
    ),
    Sabotage(
        name="outbox-of-the-first",
        says="reserve.lua queues the first reservation of a batch and forgets the others.",
        edits=(Edit(RESERVE, "  for n = 1, queued do", "  for n = 1, math.min(1, queued) do"),),
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
        edits=(Edit(RESERVE, "if call('XLEN', queue_key) >= backlog_max then", "if false then"),),
    ),
    Sabotage(
        name="write-before-check",
        says="reserve.lua writes holds before it has seen that the outbox can be written.",
        edits=(
            Edit(RESERVE, "if call('XLEN', queue_key) >= backlog_max then", "if false then"),
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
        edits=(Edit(RESERVE, "elseif not rebuy and not closed_code then", "elseif true then"),),
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
                'RELEASE = Script("release", flags="allow-oom")',
                'RELEASE = Script("release")',
            ),
        ),
    ),
    Sabotage(
        name="reseed-empty-redis",
        says="Creating a sale again loads its whole stock where Redis has lost it.",
        edits=(Edit("inventory_svc/service.py", "if registered.created:", "if registered:"),),
    ),
    Sabotage(
        name="forgotten-script",
        says="A script that Redis has forgotten is not loaded again.",
        edits=(
            Edit(
                SCRIPTS,
                'log.info("script is loaded again", script=script.name)',
                "raise",
            ),
        ),
    ),
    _promise_instead(
        '                raise OutcomeUnknown("redis did not answer") from error',
        name="lost-reply-is-a-promise",
        says="Where the reply to reserve.lua is lost, buyers are told that they have a unit.",
    ),
    _promise_instead(
        '            raise DependencyUnavailable("redis refuses the script") from error',
        name="refusal-is-a-promise",
        says="Where Redis refuses to run reserve.lua, buyers are told that they have a unit.",
    ),
    Sabotage(
        name="confirmation-ignored",
        says="Buyers are told that they have a unit, however few replicas have confirmed it.",
        edits=(Edit(SCRIPTS, "    if confirmed < confirm.replicas:\n", "    if False:\n"),),
    ),
    Sabotage(
        name="lost-reply-is-a-refusal",
        says="Where the reply to a script is lost, callers are told that nothing was written.",
        edits=(
            Edit(SCRIPTS, "if sent and not isinstance(error, BusyLoadingError):", "if not sent:"),
        ),
    ),
    Sabotage(
        name="reply-of-another",
        says="A connection whose caller left goes back to the pool with his reply under way.",
        edits=(
            Edit(
                SCRIPTS,
                "return await connection.read_response()",
                "return await connection.read_response(disconnect_on_error=False)",
            ),
        ),
    ),
    Sabotage(
        name="queue-without-a-bound",
        says="Any number of calls may wait for Redis.",
        edits=(
            Edit("inventory_svc/stock.py", "if self._waiting >= self._waiting_max:", "if False:"),
        ),
    ),
    Sabotage(
        name="xack-before-the-ack",
        says="The relay takes entries off the outbox before Kafka has acknowledged them.",
        edits=(
            Edit(
                RELAY,
                '        await failpoints.reach("relay.before_send")\n',
                "        await self._streams.remove(record.entry for record in records)\n"
                '        await failpoints.reach("relay.before_send")\n',
            ),
        ),
    ),
    Sabotage(
        name="outbox-in-memory",
        says="The relay keeps entries in its memory alone for a second before it sends them.",
        edits=(
            Edit(
                RELAY,
                '        await failpoints.reach("relay.before_send")\n',
                "        await self._streams.remove(record.entry for record in records)\n"
                "        await asyncio.sleep(1.0)\n",
            ),
        ),
    ),
    Sabotage(
        name="failed-send-dropped",
        says="The relay takes entries off the outbox also where sending them failed.",
        edits=(
            Edit(
                RELAY,
                "remove(record.entry for record in delivery.acknowledged)",
                "remove(record.entry for record in records)",
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
        name="burial-keeps-the-units",
        says="The relay buries an entry that it cannot read, and keeps its units.",
        edits=(Edit(RELAY, "        if records:\n", "        if False:\n"),),
    ),
    Sabotage(
        name="rebuild-forgets-holds",
        says="A rebuild loads the right number of units and nobody's holds.",
        edits=(
            Edit(
                REBUILD,
                "await self._upkeep.stage(sku, _holds(orders), epoch=epoch)",
                "await self._upkeep.stage(sku, {}, epoch=epoch)",
            ),
        ),
    ),
    Sabotage(
        name="rebuild-with-all-units",
        says="A rebuild loads the initial stock.",
        edits=(Edit(REBUILD, "return self._total - self.held", "return self._total"),),
    ),
)
