"""Handles the RPCs that state, list and settle payments."""

import re

from order_svc.orders.model import order_of
from order_svc.orders.reader import OrderReader
from order_svc.payments.model import (
    PROVIDER,
    SANDBOX,
    STATE_NAMES,
    UNKNOWN,
    Payment,
    payment_of,
)
from order_svc.payments.providers import SCHEMES
from order_svc.payments.providers.callback import Callback
from order_svc.payments.repository import PaymentOutcome, PaymentRepository
from order_svc.settings import OrderSettings
from seckill import order_no as numbers
from seckill.errors import PaymentProviderNotFound, PaymentSandboxOff
from seckill.runtime.clock import Clock
from seckill.v1 import order_admin_pb2, order_pb2
from seckill.validation import (
    REQUEST_ID_MAX,
    Violations,
    decode_page_token,
    encode_page_token,
    page_size,
)

_PAGE_KEY = re.compile(r"[0-9]{1,18}")


class PaymentHandlers:
    """States, lists and settles payments."""

    def __init__(
        self,
        *,
        settings: OrderSettings,
        payments: PaymentRepository,
        reader: OrderReader,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._providers = settings.payment_providers()
        self._payments = payments
        self._reader = reader
        self._clock = clock

    async def pay(self, request: order_pb2.PayOrderRequest) -> order_pb2.PayOrderResponse:
        """Handle PayOrder."""
        if self._settings.profile == "production":
            raise PaymentSandboxOff
        payment = Payment(
            order_no=request.order_no,
            provider=SANDBOX,
            payment_id=request.payment_id,
            amount_minor=request.amount.minor_units,
            currency=request.amount.currency,
            user_id=request.user_id,
        )
        payment.check()
        change = (await self._record(payment)).change()
        return order_pb2.PayOrderResponse(order=order_of(change.order))

    async def confirm(
        self, request: order_pb2.ConfirmPaymentRequest
    ) -> order_pb2.ConfirmPaymentResponse:
        """Handle ConfirmPayment."""
        violations = Violations()
        _check_provider(violations, request.provider)
        if request.provider in (SANDBOX, UNKNOWN):
            violations.add("provider", "is reserved")
        violations.check()
        payment = Payment(
            order_no=request.order_no,
            provider=request.provider,
            payment_id=request.payment_id,
            amount_minor=request.amount.minor_units,
            currency=request.amount.currency,
        )
        payment.check()
        outcome = await self._record(payment)
        change = outcome.change()
        return order_pb2.ConfirmPaymentResponse(
            order=order_of(change.order), payment=payment_of(outcome.payment)
        )

    async def receive(
        self, request: order_pb2.ReceivePaymentCallbackRequest
    ) -> order_pb2.ReceivePaymentCallbackResponse:
        """Handle ReceivePaymentCallback: verify first, then read, then record."""
        provider = self._providers.get(request.provider)
        if provider is None:
            raise PaymentProviderNotFound
        callback = Callback(headers=request.headers, body=request.body)
        notice = SCHEMES[provider.scheme](callback, provider.secrets(), now_s=self._clock.now_s())
        if notice is None:
            return order_pb2.ReceivePaymentCallbackResponse()
        payment = Payment(
            order_no=notice.order_no,
            provider=provider.name,
            payment_id=notice.payment_id,
            amount_minor=notice.amount_minor,
            currency=notice.currency,
        )
        # Money was taken: whatever else the shop called its order, the payment is on record.
        payment.check(any_order=True)
        outcome = await self._record(payment)
        return order_pb2.ReceivePaymentCallbackResponse(payment=payment_of(outcome.payment))

    async def list(
        self, request: order_admin_pb2.ListPaymentsRequest
    ) -> order_admin_pb2.ListPaymentsResponse:
        """Handle ListPayments."""
        violations = Violations()
        if request.state and request.state not in STATE_NAMES:
            violations.add("state", "is not a state of a payment")
        if request.order_no:
            violations.printable("order_no", request.order_no, REQUEST_ID_MAX)
        violations.check()
        limit = page_size(request.page_size)
        rows = await self._payments.page(
            state=STATE_NAMES.get(request.state, ""),
            order_no=request.order_no,
            after=int(decode_page_token(request.page_token, _PAGE_KEY) or 0),
            # One more than asked for tells whether there is a next page.
            limit=limit + 1,
        )
        token = encode_page_token(str(rows[limit - 1]["id"])) if len(rows) > limit else ""
        return order_admin_pb2.ListPaymentsResponse(
            payments=map(payment_of, rows[:limit]), next_page_token=token
        )

    async def settle(
        self, request: order_admin_pb2.SettlePaymentRequest
    ) -> order_admin_pb2.SettlePaymentResponse:
        """Handle SettlePayment."""
        violations = Violations()
        _check_provider(violations, request.provider)
        violations.printable("payment_id", request.payment_id, REQUEST_ID_MAX)
        violations.printable("refund_id", request.refund_id, REQUEST_ID_MAX)
        violations.check()
        row = await self._payments.settle(
            request.provider, request.payment_id, refund_id=request.refund_id
        )
        return order_admin_pb2.SettlePaymentResponse(payment=payment_of(row))

    async def _record(self, payment: Payment) -> PaymentOutcome:
        """Record a payment, and show the order that it paid."""
        outcome = await self._payments.record(
            payment, order_may_come=self._may_come(payment.order_no)
        )
        if outcome.payment["reason"] is None:
            await self._reader.publish([outcome.change()])
        return outcome

    def _may_come(self, order_no: str) -> bool:
        """Return whether an order that the database does not know may be on its way to it."""
        if not numbers.is_order_no(order_no):
            return False
        age_s = self._clock.now_s() - numbers.made_at_s(order_no)
        return abs(age_s) < self._settings.order_arrival_max_s


def _check_provider(violations: Violations, provider: str) -> None:
    if re.fullmatch(PROVIDER, provider) is None:
        violations.add(
            "provider", "must be 1 to 40 characters of [a-z0-9-], first a letter or a digit"
        )
