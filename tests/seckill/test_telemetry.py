"""Services write nothing but JSON to standard output, whatever library speaks in their process."""

import json
import subprocess
import sys
from typing import Any

from devstack.mesh import REPOSITORY_ROOT

PROGRAM = """
import asyncio, logging, threading, warnings
import structlog, uvloop
from seckill.runtime import request_ids
from seckill.runtime.settings import ProcessSettings
from seckill.runtime.telemetry import configure_logs

configure_logs(ProcessSettings(log_format="json"), service="order")
request_ids.bind("call-0001")
structlog.get_logger().info("ours", text="a\\nb")
logging.getLogger("aiokafka.consumer").error("theirs %s", "x")
logging.getLogger("aiokafka.consumer").info("chatter")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("grpc").exception("with a trace")
warnings.warn("warned", stacklevel=1)

async def main():
    asyncio.get_running_loop().call_soon(int, "no number")
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.add_done_callback(lambda _: {}["in a callback"])
    await asyncio.sleep(0.01)

uvloop.run(main())
thread = threading.Thread(target=int, args=("in a thread",), name="reader")
thread.start()
thread.join()

class Broken:
    def __del__(self):
        raise ValueError("in a finalizer")

Broken()
raise RuntimeError("at last")
"""


def test_each_line_is_json_with_the_services_name() -> None:
    """Libraries, warnings, callbacks of the loop, threads and uncaught exceptions."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=REPOSITORY_ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["service"] for line in lines} == {"order"}
    seen = {line["event"]: line for line in lines}
    assert "chatter" not in seen
    assert seen["ours"]["request_id"] == "call-0001"
    assert (seen["theirs x"]["logger"], seen["theirs x"]["level"]) == ("aiokafka.consumer", "error")
    assert seen["theirs x"]["request_id"] == "call-0001"
    traces = [line["exception"].splitlines()[-1] for line in lines if "exception" in line]
    for last in ["ZeroDivisionError", "no number", "in a callback", "in a thread"]:
        assert any(last in trace for trace in traces), last
    assert traces[-2:] == ["ValueError: in a finalizer", "RuntimeError: at last"]
    assert any("UserWarning: warned" in event for event in seen)
