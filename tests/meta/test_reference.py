"""docs/reference: what has no meaning is named; what people start from points there."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from seckill.runtime.settings import Listen, ProcessSettings
from seckill.runtime.unknown_variables import unknown_variables
from tools import reference_metrics, reference_settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference/settings.md"
KNOWN = set(re.findall(r"^\| `(SECKILL_\w+)`", REFERENCE.read_text(), re.MULTILINE))


class Example(ProcessSettings):
    """A field of each kind of meaning, and two without."""

    example_silent: int = 1
    # How long a caller
    # may wait.
    example_wait_s: float = 1.0
    example_wait_max_s: float = 2.0

    example_listen: Listen = "127.0.0.1:0"
    example_mute: int = 1


def test_a_setting_without_a_meaning_is_named() -> None:
    """Its meaning is the comment above it, that of its group, or its type's description."""
    missing: list[str] = []
    rows = {row[0].strip("`"): row[1:] for row in reference_settings._fields(Example, missing)}
    assert [name.rpartition(".")[2] for name in missing] == ["example_silent", "example_mute"]
    meaning = "How long a caller may wait."
    assert rows["SECKILL_EXAMPLE_WAIT_S"] == ("number", "`1`", "seconds", meaning)
    assert rows["SECKILL_EXAMPLE_WAIT_MAX_S"][-1] == "With `SECKILL_EXAMPLE_WAIT_S`."
    assert "host:port" in rows["SECKILL_EXAMPLE_LISTEN"][-1]


def test_a_metric_without_a_meaning_is_named() -> None:
    """As a setting."""
    missing: list[str] = []
    metric = Counter("seckill_example_total", "", ["store"], registry=CollectorRegistry())
    row = reference_metrics._row(metric, missing)
    assert row[:3] == ("`seckill_example_total`", "counter", "`store`")
    assert missing == ["seckill_example"]


@pytest.mark.parametrize("name", reference_settings.SERVICES)
def test_no_service_calls_a_setting_of_the_reference_unknown(name: str) -> None:
    """Services may share an environment with each other, the local stack and the command."""
    service = name.removesuffix("_svc")
    settings = reference_settings.SERVICES[name]
    assert list(unknown_variables(settings, service=service, env=dict.fromkeys(KNOWN, ""))) == []


def test_the_example_environment_names_a_few_settings_that_exist() -> None:
    """It has those that matter most, each once; the reference has the rest."""
    text = (ROOT / ".env.example").read_text()
    named = re.findall(r"^#?(SECKILL_\w+)=", text, re.MULTILINE)
    assert 20 <= len(named) == len(set(named)) <= 25
    assert set(named) <= KNOWN
    assert "docs/reference/settings.md" in text


def test_documents_name_settings_that_exist() -> None:
    """A variable in a page for people is in the reference, or is the prefix of several that are."""
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), ROOT / "edge/README.md"):
        for name in re.findall(r"SECKILL_[A-Z0-9_]+\b", path.read_text()):
            assert any(known.startswith(name) for known in KNOWN), f"{path.name}: {name}"
