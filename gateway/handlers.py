"""The hot methods: each handler sees a batch of calls, and no transport.

Whatever can be answered at once is; the rest goes into the lanes of inventory and order, which
answer the calls themselves. A call that needs something that is not known yet (a sale just
created, a key just rotated) is tried a second time once that has been asked for.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from gateway.admission import Admission, Moment
from gateway.front.call import Call, HotMethod
from gateway.identity import IdentityKeyUnknown
from gateway.jwks import KeySet
from gateway.metrics import count_local_refusals
from gateway.orders import Orders, Poll
from gateway.reservations import Attempt, Reservations, answer
from gateway.sales import Sales
from gateway.service_name import SERVICE
from gateway.tokens import PurchaseTokens
from seckill.errors import InvalidField, KillSwitchOn, SaleNotFound, SeckillError
from seckill.sale_view import SaleView
from seckill.v1 import gateway_pb2
from seckill.validation import PRINTABLE, REQUEST_ID_MAX, Violations

MessageT = TypeVar("MessageT", bound=Message)
Step = Callable[[Call, Moment], None]
log = structlog.get_logger()


class _SaleUnknown(Exception):
    """The sale is not known here; inventory may know it."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class HotMethods:
    """Purchase, IssuePurchaseToken, GetOrder and GetSale."""

    def __init__(
        self,
        *,
        admission: Admission,
        keys: KeySet,
        tokens: PurchaseTokens,
        sales: Sales,
        reservations: Reservations,
        orders: Orders,
        token_ttl_s: float,
    ) -> None:
        """`token_ttl_s`: life of a purchase token."""
        self._admission = admission
        self._keys = keys
        self._tokens = tokens
        self._sales = sales
        self._reservations = reservations
        self._orders = orders
        self._token_ttl_s = token_ttl_s

    def methods(self) -> tuple[HotMethod, ...]:
        """What a front serves."""
        return (
            HotMethod(f"/{SERVICE}/Purchase", self.purchase),
            HotMethod(f"/{SERVICE}/IssuePurchaseToken", self.issue_purchase_token),
            HotMethod(f"/{SERVICE}/GetOrder", self.get_order),
            HotMethod(f"/{SERVICE}/GetSale", self.get_sale),
        )

    async def purchase(self, calls: Sequence[Call]) -> None:
        """Admit or refuse each press, and reserve for those admitted."""
        refused: Counter[int] = Counter()

        def press(call: Call, moment: Moment) -> None:
            outcome = self._press(call, moment)
            if outcome is not None:
                answer(call, outcome)
                refused[outcome] += 1

        await self._each(calls, press, then=self._reservations.kick)
        if refused:
            count_local_refusals(refused)

    def _press(self, call: Call, moment: Moment) -> int | None:
        """One press: an outcome, or None where the reservation will answer."""
        if self._sales.halted:
            raise KillSwitchOn
        request = _parse(gateway_pb2.PurchaseRequest, call.payload)
        sku, request_id, quantity = request.sku, request.request_id, request.quantity or 1
        sale = self._sales.get(sku)
        if (
            sale is None
            or not 1 <= quantity <= sale.limit
            or len(request_id) > REQUEST_ID_MAX
            or PRINTABLE.fullmatch(request_id) is None
        ):
            self._explain(request, sale)
        refusal = None
        if sale.holders is not None and self._sales.believed(moment.monotonic_s):
            refusal = sale.refusal(moment.now_s)
            if refusal is not None and not sale.holders:
                return refusal
        self._admission.pass_anyone(call, moment)
        user_id = self._pass_presser(call, request.purchase_token, moment)
        if refusal is not None and sale.holders is not None and user_id not in sale.holders:
            return refusal
        now_ms = int(moment.now_s * 1000)
        self._tokens.check(request.purchase_token, user_id, sku, now_ms=now_ms)
        attempt = Attempt(call, user_id=user_id, request_id=request_id, quantity=quantity)
        self._reservations.add(sku, attempt)
        return None

    def _pass_presser(self, call: Call, purchase_token: str, moment: Moment) -> str:
        """Who presses, his bucket charged.

        He has shown his identity when he got the purchase token. If that was so long ago, or at
        another replica, that it is not remembered here, the purchase token proves it.
        """
        authorization = call.authorization
        known = self._admission.remembered(authorization, moment)
        if known is not None:
            user_id = known.user_id
        else:
            vouched = authorization and self._tokens.vouched_for(
                purchase_token, authorization, now_ms=int(moment.now_s * 1000)
            )
            if not vouched:
                return self._admission.pass_buyer(authorization, moment).user_id
            user_id = vouched
        self._admission.charge(user_id, moment)
        return user_id

    @staticmethod
    def _explain(request: gateway_pb2.PurchaseRequest, sale: SaleView | None) -> NoReturn:
        """Raises InvalidField naming what is wrong with a press, or _SaleUnknown."""
        violations = Violations()
        violations.sku("sku", request.sku)
        violations.request_id("request_id", request.request_id)
        if sale is not None:
            violations.between("quantity", request.quantity, 0, sale.limit)
        violations.check()
        raise _SaleUnknown(request.sku)

    async def issue_purchase_token(self, calls: Sequence[Call]) -> None:
        """Sign a purchase token for each buyer."""
        await self._each(calls, self._issue)

    def _issue(self, call: Call, moment: Moment) -> None:
        if self._sales.halted:
            raise KillSwitchOn
        request = _parse(gateway_pb2.IssuePurchaseTokenRequest, call.payload)
        sku = request.sku
        if self._sales.get(sku) is None:
            _check_sku(sku)
            raise _SaleUnknown(sku)
        self._admission.pass_anyone(call, moment)
        buyer = self._admission.pass_buyer(call.authorization, moment)
        # It vouches for the JWT, so it must not outlive it.
        expire_ms = int(min(moment.now_s + self._token_ttl_s, buyer.until_s) * 1000)
        token = self._tokens.mint(
            buyer.user_id, sku, authorization=call.authorization or b"", expire_ms=expire_ms
        )
        response = gateway_pb2.IssuePurchaseTokenResponse(purchase_token=token)
        response.expire_time.FromMilliseconds(expire_ms)
        call.respond(response.SerializeToString())

    async def get_order(self, calls: Sequence[Call]) -> None:
        """Read each buyer's order."""
        await self._each(calls, self._poll, then=self._orders.kick)

    def _poll(self, call: Call, moment: Moment) -> None:
        request = _parse(gateway_pb2.GatewayServiceGetOrderRequest, call.payload)
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.check()
        self._admission.pass_anyone(call, moment)
        user_id = self._admission.pass_buyer(call.authorization, moment).user_id
        self._orders.add(Poll(call, order_no=request.order_no, user_id=user_id))

    async def get_sale(self, calls: Sequence[Call]) -> None:
        """Show each caller a sale; one question to inventory a sku and second."""
        asking: dict[str, list[Call]] = {}

        def ask(call: Call, moment: Moment) -> None:
            request = _parse(gateway_pb2.GatewayServiceGetSaleRequest, call.payload)
            _check_sku(request.sku)
            self._admission.pass_anyone(call, moment)
            asking.setdefault(request.sku, []).append(call)

        await self._each(calls, ask)
        for sku, askers in asking.items():
            await _answer_all(askers, self._sales, sku)

    async def _each(
        self, calls: Sequence[Call], step: Step, then: Callable[[], None] | None = None
    ) -> None:
        """Run `step` on each call, answer with what it raises, then `then`.

        Calls that need an unknown sale or key wait until it has been asked for; the others do not
        wait for them.
        """
        moment = Moment.read()
        again: list[Call] = []
        skus: dict[str, SeckillError] = {}
        key_unknown = False
        for call in calls:
            try:
                step(call, moment)
            except SeckillError as error:
                if isinstance(error, IdentityKeyUnknown):
                    key_unknown = True
                    again.append(call)
                else:
                    call.fail(error)
            except _SaleUnknown as unknown:
                skus[unknown.sku] = SaleNotFound(metadata={"sku": unknown.sku})
                again.append(call)
            except Exception:
                log.exception("call failed")
                call.fail(SeckillError())
        if then is not None:
            then()
        if again:
            await self._learn(skus, key_unknown=key_unknown)
            self._finish(again, step, skus)
            if then is not None:
                then()

    async def _learn(self, skus: dict[str, SeckillError], *, key_unknown: bool) -> None:
        """Ask for what is unknown; `skus` gets the error of each that stays so."""
        if key_unknown:
            await self._keys.reload_for_unknown_key()
        for sku in skus:
            try:
                await self._sales.read(sku)
            except SeckillError as error:
                skus[sku] = error

    @staticmethod
    def _finish(calls: Sequence[Call], step: Step, skus: dict[str, SeckillError]) -> None:
        """The second and last try."""
        moment = Moment.read()
        for call in calls:
            if call.cancelled:
                continue
            try:
                step(call, moment)
            except SeckillError as error:
                call.fail(error)
            except _SaleUnknown as unknown:
                call.fail(skus.get(unknown.sku) or SaleNotFound(metadata={"sku": unknown.sku}))


async def _answer_all(calls: Sequence[Call], sales: Sales, sku: str) -> None:
    try:
        # GetSaleResponse and GatewayServiceGetSaleResponse have the same fields (tested).
        payload = await sales.read(sku)
    except SeckillError as error:
        for call in calls:
            call.fail(error)
        return
    for call in calls:
        call.respond(payload)


def _parse(message_type: type[MessageT], payload: bytes) -> MessageT:
    try:
        return message_type.FromString(payload)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.name
        raise InvalidField([("request", f"is not a serialized {name}")]) from error


def _check_sku(sku: str) -> None:
    violations = Violations()
    violations.sku("sku", sku)
    violations.check()
