"""What runs and is ready: every store and service is asked, frozen ones too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import Stores, start_background, stop_background
from devstack.readiness import check_readiness
from tests.kits.devstack import ROOT, WAIT_TIMEOUT_S, environment_of_given_stores


@pytest.mark.slow
def test_frozen_store_is_not_ready(tmp_path: Path) -> None:
    """Its port still takes connections; the others are ready, and `seckill status` exits with 1."""
    env = {**os.environ, "SECKILL_LOCAL_DIR": str(tmp_path)}
    state = start_background(env=env)
    try:
        assert all(one.ready for one in check_readiness(state))
        for frozen in state.processes:
            os.kill(frozen.pid, signal.SIGSTOP)
            ready = {one.name: one.ready for one in check_readiness(state)}
            assert ready == {one.name: one.name != frozen.name for one in state.processes}
            if frozen.name == "kafka":
                status = subprocess.run(
                    [sys.executable, "-m", "seckill_cli", "status"],
                    cwd=ROOT,
                    env=env,
                    capture_output=True,
                    text=True,
                    timeout=WAIT_TIMEOUT_S,
                    check=False,
                )
                assert status.returncode == 1
                assert "not ready" in status.stdout
            os.kill(frozen.pid, signal.SIGCONT)
    finally:
        assert stop_background(tmp_path)


def test_given_stores_are_asked_too(tmp_path: Path, stores: Stores) -> None:
    """Those without a process here are listed by their addresses, without a password."""
    state = start_background(env=environment_of_given_stores(stores, tmp_path))
    try:
        found = check_readiness(state)
    finally:
        assert stop_background(tmp_path)
    assert {one.name: one.ready for one in found} == dict.fromkeys(
        ("postgres", "valkey", "kafka"), True
    )
    assert found[0].version.startswith("PostgreSQL ")
    assert all(one.address.startswith("127.0.0.1:") for one in found)
    assert all(one.pid is None for one in found)
