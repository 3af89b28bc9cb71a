"""Bugs planted in rollback_svc: the rounds and their order of steps, the reconciler's repairs."""

from campaigns.sabotage.edits import Edit, Sabotage

SWEEPER = "rollback_svc/sweeper.py"
RECONCILER = "rollback_svc/reconciler.py"
REPAIR = "inventory_svc/lua/repair.lua"

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
        says="What one replica has claimed of the delay set is still due for all others.",
        edits=(
            Edit(
                "seckill/runtime/delay_claim.lua",
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
    Sabotage(
        name="lost-reservations-left",
        says="Reservations that have lost their orders are sent again only for an operator.",
        edits=(Edit(RECONCILER, "repair = Repair.ACCOUNTED\n", "repair = Repair.SELL_LESS\n"),),
    ),
    Sabotage(
        name="resend-of-the-first",
        says="Of the reservations that are sent again together only the first is.",
        edits=(Edit(REPAIR, "table.concat(lines, '\\n'))\n", "lines[1])\n"),),
    ),
    Sabotage(
        name="selling-sale-skipped",
        says="A sale that changes without pause is not compared.",
        edits=(Edit(RECONCILER, "            if exact:\n", "            if True:\n"),),
    ),
    Sabotage(
        name="delay-set-unpruned",
        says="Ended orders stay in the delay set until their payment windows end.",
        edits=(Edit(RECONCILER, "            await self._delay.remove(ended)\n", ""),),
    ),
    Sabotage(
        name="repairs-without-a-bound",
        says="A round repairs all that it finds.",
        edits=(
            Edit(
                RECONCILER,
                "Allowance(self._settings.rollback_reconcile_repairs_max)\n        results",
                "Allowance(10**9)\n        results",
            ),
        ),
    ),
    Sabotage(
        name="empty-repair-counts",
        says="A repair that found nothing to do counts as one.",
        edits=(
            Edit(
                REPAIR,
                "if #lines > 0 or #writes > 0 or reply[2] ~= 0 then",
                "if true then",
            ),
        ),
    ),
    Sabotage(
        name="release-fills-the-stock",
        says="With a hold that it releases a repair puts all missing units on sale.",
        edits=(Edit(REPAIR, "math.min(-surplus, released)", "-surplus"),),
    ),
)
