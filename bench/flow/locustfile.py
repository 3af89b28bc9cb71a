"""The whole flow for locust: one number says how big, and any number of machines share it.

`--buyers N`: a spike; N humans look at the page and purchase within `--within` seconds of the start
of the sale. `--rate N`: a tail; N humans a second arrive for `--seconds`.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from random import Random
from typing import Any

import gevent
from google.protobuf.message import Message
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from bench.flow import identities
from bench.flow.json_form import OK, PATHS, request_of, response_of, status_of
from bench.flow.table import figures, lines
from bench.flow.tally import Tally
from bench.flow.visit import TOO_LATE, VISIT_MAX_S, WAIT_MAX_S, Habits, Visit
from seckill.client import flows
from seckill.client.errors import DETAILS_KEY, call_failed

# A spike's crowd gathers on the page within this; locust starts humans once a second.
GATHER_S = 10.0
# In the tail one of locust's users is a new human this often. Most visits take a third of it.
PACE_S = 10.0
# Workers report every three seconds: what was counted last is known after two of that.
REPORTS_S = 6.0
A_DAY_S = 86_400.0
ANSWER_TIMEOUT_S = 15.0
# Reasons of answers that a visit counts by itself; others are in locust's table of failures.
EXPECTED = frozenset({"ORDER_NOT_FOUND", "PURCHASE_TOKEN_EXPIRED", *TOO_LATE})


class _Run:
    """What this process knows of the run."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.jwts: Iterator[str] = iter(())
        self.begun_s = 0.0

    def over(self, options: Any) -> bool:
        """Return whether the tail's time is over: no more humans arrive."""
        return bool(options.rate) and time.monotonic() - self.begun_s > options.seconds


RUN = _Run()


class Human(FastHttpUser):
    """In a spike one human; in a tail one after the other."""

    network_timeout = connection_timeout = ANSWER_TIMEOUT_S

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._random = Random()
        self._jwt = ""
        self._arrived_s = 0.0

    @task
    def visit(self) -> None:
        """One visit, from the page to the payment."""
        options = self.environment.parsed_options
        if RUN.over(options):
            return
        self._arrived_s = time.monotonic()
        self._jwt = next(RUN.jwts, "")
        if not self._jwt:
            _give_up(self.environment, "the file has too few identities")
            return
        habits = Habits(
            within_s=options.within,
            pay_ratio=options.pay_ratio,
            twice_ratio=options.twice_ratio,
        )
        Visit(self, sku=options.sku, habits=habits, tally=RUN.tally, random=self._random).run()
        if options.rate and time.monotonic() - self._arrived_s > PACE_S:
            RUN.tally.late += 1

    def wait_time(self) -> float:
        """Until the next human comes: locust asks after each visit."""
        options = self.environment.parsed_options
        if options.buyers or RUN.over(options):
            return A_DAY_S
        return max(0.0, PACE_S - (time.monotonic() - self._arrived_s))

    def perform(self, step: flows.Ask) -> Message:
        """See `Shop.perform`."""
        request = request_of(step.method, step.request)
        with self.client.request(
            request.verb,
            request.path,
            name=PATHS[step.method].template,
            json=request.body,
            headers={"authorization": f"Bearer {self._jwt}"} if step.as_buyer else {},
            catch_response=True,
        ) as response:
            status, content = response.status_code, response.content or b""
            if status == OK:
                response.success()
                return response_of(step.method, content)
            code, details = status_of(status, content)
            failure = call_failed(code, details.message, {DETAILS_KEY: details.SerializeToString()})
            if failure.reason in EXPECTED:
                response.success()
            elif status:
                response.failure(f"{status} {failure.reason}")
        raise failure


class Crowd(LoadTestShape):
    """Says how many users locust runs; ends the run once all visits have ended."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users are wanted, and how many start a second; None ends the run."""
        options = self.runner.environment.parsed_options
        if options.buyers:
            longest_s = GATHER_S + WAIT_MAX_S + VISIT_MAX_S
            if RUN.tally.ended >= options.buyers or self.get_run_time() > longest_s:
                return None
            return options.buyers, max(1.0, options.buyers / GATHER_S)
        beyond_s = self.get_run_time() - options.seconds
        all_gone = RUN.tally.ended >= RUN.tally.visits
        if beyond_s > VISIT_MAX_S or (beyond_s > REPORTS_S and all_gone):
            return None
        return max(1, round(options.rate * PACE_S)), options.rate


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    flow = parser.add_argument_group("the flow")
    flow.add_argument("--buyers", type=int, default=0, help="a spike of so many humans")
    flow.add_argument("--rate", type=float, default=0, help="a tail: humans a second")
    flow.add_argument("--seconds", type=float, default=60, help="how long the tail lasts")
    flow.add_argument("--sku", default="flow", help="the sale")
    flow.add_argument(
        "--within", type=float, default=1.5, help="seconds in which a waiting crowd purchases"
    )
    flow.add_argument("--pay-ratio", type=float, default=0.7, help="of those with an order")
    flow.add_argument("--twice-ratio", type=float, default=0.1, help="send a purchase twice")
    flow.add_argument(
        "--secrets", default=".seckill/secrets", help="folder of the mesh's development keys"
    )
    flow.add_argument("--identities", default="", help="file with a JWT a line, instead")
    flow.add_argument("--outcomes", default="", help="file for the endings of all visits")


@events.init.add_listener
def _check_options(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    if isinstance(environment.runner, WorkerRunner):
        # The master says.
        return
    if (options.buyers > 0) == (options.rate > 0):
        sys.exit("error: give --buyers for a spike, or --rate for a tail")


@events.test_start.add_listener
def _begin(environment: Environment, **_: object) -> None:
    options, runner = environment.parsed_options, environment.runner
    RUN.begun_s = time.monotonic()
    RUN.tally.clear()
    if isinstance(runner, MasterRunner):
        # Nobody visits from here.
        return
    if not options.identities:
        RUN.jwts = identities.minted(FilePath(options.secrets))
        return
    try:
        RUN.jwts = identities.read(
            FilePath(options.identities), share=runner.worker_index, shares=options.expect_workers
        )
    except ValueError as error:
        _give_up(environment, str(error))


def _give_up(environment: Environment, problem: str) -> None:
    sys.stderr.write(f"error: {problem}\n")
    # Not from a greenlet that quitting would end.
    gevent.spawn(environment.runner.quit)


@events.report_to_master.add_listener
def _tell_master(data: dict[str, Any], **_: object) -> None:
    data["flow"] = RUN.tally.pack()
    RUN.tally.clear()


@events.worker_report.add_listener
def _hear_worker(data: dict[str, Any], **_: object) -> None:
    RUN.tally.add(Tally.unpack(data["flow"]))


@events.quitting.add_listener
def _judge(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0
        return
    options = environment.parsed_options
    # What was repeated and went well in the end is in locust's table, and is no fault.
    short = RUN.tally.ended < max(1, options.buyers)
    environment.process_exit_code = 1 if RUN.tally.faults or short else 0
    if options.outcomes:
        FilePath(options.outcomes).write_text(json.dumps(figures(RUN.tally), indent=2) + "\n")
    # After locust's own tables.
    events.quit.add_listener(lambda **_: sys.stdout.write("\n".join(lines(RUN.tally)) + "\n"))
