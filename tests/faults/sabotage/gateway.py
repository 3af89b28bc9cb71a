"""Bugs planted in the gateway, and in what all stages share."""

from tests.faults.sabotage.edits import Edit, Sabotage

RESERVATIONS = "gateway/reservations.py"

SABOTAGES = (
    Sabotage(
        name="answer-of-the-neighbour",
        says="In a batch of presses the answers go to the wrong buyers.",
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
        says="The gateway tells buyers that nothing was reserved where it does not know.",
        edits=(
            Edit(
                RESERVATIONS,
                "    return OutcomeUnknown()\n",
                '    return DependencyUnavailable("inventory does not answer")\n',
            ),
        ),
    ),
    Sabotage(
        name="sigterm-unheard",
        says="A stage that is told to end is killed by the signal.",
        edits=(
            Edit(
                "seckill/process.py",
                "            loop.add_signal_handler(number, process.stop)\n",
                "            del number\n",
            ),
        ),
    ),
    Sabotage(
        name="memory-only-redis",
        says="The local Valkey keeps nothing on disk.",
        edits=(Edit("deploy/local/valkey.py", '"appendonly": "yes"', '"appendonly": "no"'),),
    ),
    Sabotage(
        name="unsafe-settings-ignored",
        says="A stage takes calls although a store may lose what it acknowledges.",
        edits=(Edit("seckill/safety.py", "        if self._problems:\n", "        if False:\n"),),
    ),
)
