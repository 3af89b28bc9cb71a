"""The stack's directory: full, in the way, another user's, of another version."""

import json
import os
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import (
    StackError,
    ValkeyServer,
    running_state,
    start_background,
    stop_background,
)
from devstack.directory import STACK, DirectoryLock

UNPRIVILEGED_ID = 65_534


@pytest.fixture
def foreign_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that the process has no permission for."""
    directory = tmp_path / "stack"
    directory.mkdir()
    (directory / "stack.json").touch()
    (directory / ".lock").touch()
    directory.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(UNPRIVILEGED_ID)
        yield directory
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o700)


def test_full_disk_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little room is an error that says how much there is and how much is needed."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1 << 40, 0, 120 << 20))
    with pytest.raises(StackError, match=r"only 120 MiB are free .* 500 are needed"):
        ValkeyServer(tmp_path / "valkey").start()


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the directory's place is an error that names the variable for another place."""
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot create .*SECKILL_LOCAL_DIR"):
        ValkeyServer(tmp_path / "file" / "valkey").start()


def test_directory_of_another_user_is_told_in_one_line(foreign_directory: Path) -> None:
    """Whatever is asked of a stack there: the message names the place and the remedy."""
    for asked in (
        lambda: start_background(env={"SECKILL_LOCAL_DIR": str(foreign_directory)}),
        lambda: running_state(foreign_directory),
        lambda: stop_background(foreign_directory),
    ):
        with pytest.raises(StackError, match=r"stack.*SECKILL_LOCAL_DIR") as caught:
            asked()
        assert len(caught.value.problems) == 1


def test_file_in_the_place_of_the_directory_is_told(tmp_path: Path) -> None:
    """Nothing runs there, and a start says what is in the way."""
    place = tmp_path / ".seckill"
    place.touch()
    assert running_state(place) is None
    assert not stop_background(place)
    with pytest.raises(StackError, match="move away the file in its place"):
        start_background(env={"SECKILL_LOCAL_DIR": str(place)})


def test_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The message names the log."""
    (tmp_path / "supervisor.log").mkdir()
    with pytest.raises(StackError, match=r"supervisor\.log"):
        start_background(env={"SECKILL_LOCAL_DIR": str(tmp_path)})


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"supervisor_pid": 1})])
def test_state_of_another_version_is_told(tmp_path: Path, content: str) -> None:
    """A stack that another version started is not taken for none."""
    lock = DirectoryLock(tmp_path, claimed_by=STACK)
    lock.acquire()
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(StackError, match=r"not what this version .*seckill down"):
        running_state(tmp_path)
    lock.release()
    assert not stop_background(tmp_path)
    assert not (tmp_path / "stack.json").exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"pid": "x", "created_at_s": 0}'])
def test_unreadable_pid_file_does_not_hinder_a_start(tmp_path: Path, content: str) -> None:
    """A record that a full disk cut short is left behind by a crash; the store starts."""
    (tmp_path / "valkey.pid.json").write_text(content)
    with ValkeyServer(tmp_path) as server:
        assert server.running
