"""Bugs planted in rollback_svc: the rounds and their order of steps."""

from tests.faults.sabotage.edits import Edit, Sabotage

SWEEPER = "rollback_svc/sweeper.py"

_NO_SWEEP = Edit(
    SWEEPER,
    "            await self._settle(found, await self._cancel(found),"
    " result, now_s=result.now_s)\n",
    "",
)

SABOTAGES = (
    Sabotage(
        name="noted-before-released",
        says="Units are noted as restored before they are given back.",
        edits=(
            Edit(
                SWEEPER,
                "        by_sku = defaultdict(list)\n        for order in orders:\n",
                "        orders = list(orders)\n"
                "        for order in orders:\n"
                "            await self._orders.mark_restored([order.order_no])\n"
                "        by_sku = defaultdict(list)\n"
                "        for order in orders:\n",
            ),
        ),
    ),
    Sabotage(
        name="released-and-not-noted",
        says="Units are given back and never noted as restored.",
        edits=(
            Edit(
                SWEEPER,
                "await self._orders.mark_restored(restored)",
                "await asyncio.sleep(0)",
            ),
        ),
    ),
    Sabotage(
        name="forgotten-before-cancelled",
        says="Orders leave the delay set before they are cancelled, and nothing looks for them.",
        edits=(
            Edit(
                SWEEPER,
                "            await self._remove(malformed)\n",
                "            await self._remove(found)\n",
            ),
            Edit(
                SWEEPER,
                "                await self._delay.add(dict.fromkeys(numbers, claim.now_s))\n",
                "",
            ),
            _NO_SWEEP,
        ),
    ),
    Sabotage(
        name="delay-set-alone",
        says="Nothing looks for expired orders beyond the delay set.",
        edits=(_NO_SWEEP,),
    ),
    Sabotage(
        name="claimed-by-all",
        says="What one replica has claimed of the delay set is everybody's all the same.",
        edits=(
            Edit(
                "seckill/delay_claim.lua",
                "string.format('%.0f', now_ms + lease_ms)",
                "string.format('%.0f', now_ms)",
            ),
        ),
    ),
    Sabotage(
        name="unanswered-is-settled",
        says="Orders of which OrderService does not say what became of them count as settled.",
        edits=(
            Edit(
                SWEEPER,
                "                await self._delay.add(dict.fromkeys(numbers, claim.now_s))\n",
                "                await self._remove(numbers)\n",
            ),
        ),
    ),
)
