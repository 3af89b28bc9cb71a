"""Settings name what is wrong with them."""

from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from seckill.settings import ProcessSettings, load


class Example(ProcessSettings):
    """Settings of a stage that does not exist."""

    example_limit: Annotated[int, Field(gt=0)] = 1
    example_secret: SecretStr
    example_key: Annotated[SecretStr, Field(min_length=8)] = SecretStr("long enough")


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """What `load` prints before it exits with 2."""
    with pytest.raises(SystemExit) as ended:
        load(Example)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_missing_secret_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its variable; there is no default."""
    monkeypatch.delenv("SECKILL_EXAMPLE_SECRET", raising=False)
    assert refused(capsys) == "SECKILL_EXAMPLE_SECRET is not set\n"


def test_a_bad_value_is_named_with_its_value_but_a_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number is quoted, the key is not."""
    monkeypatch.setenv("SECKILL_EXAMPLE_SECRET", "s")
    monkeypatch.setenv("SECKILL_EXAMPLE_LIMIT", "-3")
    monkeypatch.setenv("SECKILL_EXAMPLE_KEY", "short")
    said = refused(capsys)
    assert "SECKILL_EXAMPLE_LIMIT='-3'" in said
    assert "SECKILL_EXAMPLE_KEY=(secret)" in said
    assert "short" not in said


def test_settings_are_read_from_the_environment_and_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables carry the prefix; nothing changes them later."""
    monkeypatch.setenv("SECKILL_EXAMPLE_SECRET", "s")
    monkeypatch.setenv("SECKILL_EXAMPLE_LIMIT", "5")
    settings = load(Example)
    assert settings.example_limit == 5
    with pytest.raises(ValueError, match="frozen"):
        settings.example_limit = 6
