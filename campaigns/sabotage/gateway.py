"""Bugs planted in the gateway, and in what all services share."""

from campaigns.sabotage.edits import Edit, Sabotage

RESERVATIONS = "gateway/reservations.py"

SABOTAGES = (
    Sabotage(
        name="answer-of-the-neighbour",
        says="In a batch of attempts the answers go to the wrong buyers.",
        edits=(
            Edit(
                RESERVATIONS,
                "zip(batch, response.results, strict=True)",
                "zip(batch, reversed(response.results), strict=True)",
            ),
        ),
    ),
    Sabotage(
        name="lost-batch-is-a-refusal",
        says="The gateway tells buyers that nothing was reserved although it does not know.",
        edits=(
            Edit(
                RESERVATIONS,
                "    return OutcomeUnknown()\n",
                '    return DependencyUnavailable("inventory does not answer")\n',
            ),
        ),
    ),
    Sabotage(
        name="all-json-is-a-fault",
        says="The edge's log of faults takes Envoy's word for the gRPC status of JSON answers.",
        edits=(
            Edit(
                "edge/access_log.py",
                '{"and_filter": {"filters": [*is_grpc(), grpc_fault]}},',
                "grpc_fault,",
            ),
        ),
    ),
    Sabotage(
        name="envoy-ends-at-once",
        says="Envoy is ended without a word to its clients, in the middle of their calls.",
        edits=(Edit("edge/__main__.py", "        await drain(settings)\n", ""),),
    ),
    Sabotage(
        name="not-found-too-early",
        says="Polls of an order that was lost and comes back are told that there is none.",
        edits=(
            Edit(
                "gateway/orders.py",
                "< self._arrival_max_s\n",
                "< self._arrival_max_s / 2\n",
            ),
        ),
    ),
    Sabotage(
        name="sigterm-unheard",
        says="A service that gets SIGTERM dies of it instead of ending in good order.",
        edits=(
            Edit(
                "seckill/runtime/process.py",
                "            loop.add_signal_handler(number, process.stop)\n",
                "            del number\n",
            ),
        ),
    ),
    Sabotage(
        name="streams-outlive-sigterm",
        says="A service that stops waits for its streams until the drain is over, and cuts them.",
        edits=(
            Edit(
                "seckill/runtime/server.py",
                "        asyncio.get_running_loop().call_soon(interceptor.streams.end)\n",
                "",
            ),
        ),
    ),
    Sabotage(
        name="unanswered-batch-given-up",
        says="A batch of reservations is sent once, whatever becomes of its answer.",
        edits=(
            Edit(
                RESERVATIONS,
                "            if not isinstance(fault, OutcomeUnknown) or left_s <= 0:\n",
                "            if left_s:\n",
            ),
        ),
    ),
    Sabotage(
        name="outliers-kept",
        says="A replica that answers nothing gets its calls until keepalive finds it.",
        edits=(
            Edit(
                "seckill/runtime/channel.py",
                '"enforcementPercentage": 100',
                '"enforcementPercentage": 0',
            ),
            Edit(
                "seckill/runtime/http2/outliers.py",
                "            if standing.mostly_failed and not standing.left_out:\n",
                "            if False:\n",
            ),
        ),
    ),
    Sabotage(
        name="refused-calls-unknown",
        says="A call that a replica has refused is taken for one that it may have handled.",
        edits=(
            Edit(
                "seckill/runtime/http2/unary_call.py",
                "        elif code == Code.REFUSED_STREAM and not self._begun:\n",
                "        elif False:\n",
            ),
        ),
    ),
    Sabotage(
        name="lost-calls-never-sent",
        says="A call whose connection was lost is taken for one that was never handled.",
        edits=(
            Edit(
                "seckill/runtime/http2/unary_call.py",
                'failed(grpc.StatusCode.UNAVAILABLE, "the connection was lost")',
                "NotHandled()",
            ),
        ),
    ),
    Sabotage(
        name="breaker-of-one-replica",
        says="The failures of one replica open the circuit breaker for all of them.",
        edits=(
            Edit(
                "seckill/runtime/breaker.py",
                "        if self._last_answer_s > min(begun_s, now_s - ANSWERS_FOR_S):\n",
                "        if False:\n",
            ),
        ),
    ),
    Sabotage(
        name="memory-only-redis",
        says="The local Valkey keeps nothing on disk.",
        edits=(Edit("devstack/valkey.py", '"appendonly": "yes"', '"appendonly": "no"'),),
    ),
    Sabotage(
        name="unsafe-settings-ignored",
        says="A service takes calls although a store may lose what it acknowledges.",
        edits=(
            Edit(
                "seckill/runtime/safety.py", "        if self._problems:\n", "        if False:\n"
            ),
        ),
    ),
)
