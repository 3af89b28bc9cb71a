"""The span of a webhook that is sent."""

from collections.abc import Awaitable

from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.sender import Answer
from seckill.runtime import request_ids, tracing


async def traced_send(endpoint: Endpoint, send: Awaitable[Answer]) -> Answer:
    """Await `send` below a span of its own; of those that are delivered a share is traced.

    It is in the trace that its call id names, if that is one. Neither address nor body is told.
    """
    tracer = tracing.tracer
    if tracer is None:
        return await send
    trace_id = tracer.trace_id_of(request_ids.current())
    span = tracer.begin("POST", "client", parent=None, trace_id=trace_id)
    chosen = bool(tracer.roots(1))
    with tracing.below(span if chosen else None):
        answer = await send
    if chosen or (answer.error and tracer.admits_error()):
        span.attributes["http.request.method"] = "POST"
        span.attributes["seckill.webhook.endpoint"] = endpoint.name
        if answer.status is not None:
            span.attributes["http.response.status_code"] = answer.status
        error = answer.error and str(answer.status or "unanswered")
        tracer.end(span, error=error)
    return answer
