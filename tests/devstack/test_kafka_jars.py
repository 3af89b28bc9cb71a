"""Kafka's jars: only the locked ones are fetched, and only once."""

import hashlib
from pathlib import Path

import pytest

from devstack import StackError, artifacts


@pytest.fixture
def small_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one jar, an empty cache, and a registry that serves the bytes `jar`."""
    lock = tmp_path / "kafka.lock"
    monkeypatch.setattr(artifacts, "LOCK_PATH", lock)
    monkeypatch.setenv("SECKILL_CACHE_DIR", str(tmp_path / "cache"))

    def download(_self: object, artifact: object) -> Path:
        path: Path = artifact.cached_path  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jar")
        return path

    monkeypatch.setattr("jgo.maven.PythonResolver.download", download)
    return lock


def test_locked_jars_are_fetched_once(small_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jars with the locked hash are put in place; a second fetch asks no server."""
    locked = hashlib.sha256(b"jar").hexdigest()
    small_lock.write_text(f"org.example:broker:1.0 {locked}\n")
    artifacts.fetch_jars()
    assert (artifacts.jar_directory() / "broker-1.0.jar").read_bytes() == b"jar"
    monkeypatch.setattr("jgo.maven.PythonResolver.download", None)
    artifacts.fetch_jars()
    assert artifacts.jars_present()


def test_jar_with_another_hash_is_refused(small_lock: Path) -> None:
    """A jar that is not the locked one never reaches the class path."""
    small_lock.write_text(f"org.example:broker:1.0 {'0' * 64}\n")
    with pytest.raises(StackError, match=r"broker-1\.0\.jar .*SECKILL_KAFKA_BOOTSTRAP"):
        artifacts.fetch_jars()
    assert not artifacts.jars_present()
    assert not artifacts.jar_directory().exists()


def test_lock_holds_no_address() -> None:
    """The committed lock is coordinates and hashes: where jars come from is the user's affair."""
    text = artifacts.LOCK_PATH.read_text()
    assert "://" not in text
    assert len(artifacts.read_lock()) > 40
    assert artifacts.kafka_version() == "4.3.0"
