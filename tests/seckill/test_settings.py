"""Settings name what is wrong with them."""

import os
import subprocess
import sys
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from seckill.runtime.settings import Listen, ProcessSettings, Target, load
from seckill.runtime.store_settings import KafkaSettings, PostgresSettings, RedisSettings
from seckill.runtime.unknown_variables import unknown_variables

SECRET = "hunter2"
STORES = {
    "SECKILL_REDIS_URL": "redis://127.0.0.1:6379/0",
    "SECKILL_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "SECKILL_POSTGRES_DSN": "postgresql://127.0.0.1:5432/seckill",
}


class Example(ProcessSettings):
    """Settings of a service that does not exist."""

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


class Connected(RedisSettings, KafkaSettings, PostgresSettings):
    """Settings of a service that uses everything."""

    example_listen: Listen = "127.0.0.1:0"
    example_target: Target = "dns:///127.0.0.1:50051"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECKILL_EXAMPLE_LISTEN", "127.0.0.1:99999"),
        ("SECKILL_EXAMPLE_LISTEN", "127.0.0.1:65536"),
        ("SECKILL_EXAMPLE_LISTEN", "127.0.0.1"),
        ("SECKILL_EXAMPLE_LISTEN", ":50051"),
        ("SECKILL_EXAMPLE_LISTEN", "127.0.0.1:-1"),
        ("SECKILL_EXAMPLE_TARGET", "http://127.0.0.1:50051"),
        ("SECKILL_EXAMPLE_TARGET", "127.0.0.1"),
        ("SECKILL_EXAMPLE_TARGET", "dns:///127.0.0.1:0"),
        ("SECKILL_EXAMPLE_TARGET", "dns:///two words:50051"),
        ("SECKILL_KAFKA_BOOTSTRAP", "kafka://127.0.0.1:9092"),
        ("SECKILL_KAFKA_BOOTSTRAP", "127.0.0.1:99999"),
        ("SECKILL_KAFKA_BOOTSTRAP", "a:9092,,b:9092"),
        ("SECKILL_KAFKA_BOOTSTRAP", "a:9092, b:9092"),
        ("SECKILL_REDIS_URL", f"http://:{SECRET}@127.0.0.1:6379"),
        ("SECKILL_REDIS_URL", f"redis://:{SECRET}@127.0.0.1:99999"),
        ("SECKILL_REDIS_URL", f"redis://127.0.0.1:{SECRET}/0"),
        ("SECKILL_REDIS_URL", "127.0.0.1:6379"),
        ("SECKILL_POSTGRES_DSN", f"mysql://u:{SECRET}@127.0.0.1/seckill"),
        ("SECKILL_POSTGRES_DSN", f"postgresql://u:{SECRET}@127.0.0.1:99999/seckill"),
        ("SECKILL_POSTGRES_DSN", f"postgresql://127.0.0.1:{SECRET}/seckill"),
        ("SECKILL_POSTGRES_DSN", "host=127.0.0.1 dbname=seckill"),
    ],
)
def test_an_address_of_another_form_is_one_line_that_names_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ports out of range, other schemes, missing parts; passwords are not shown."""
    for name, good in {**STORES, variable: value}.items():
        monkeypatch.setenv(name, good)
    with pytest.raises(SystemExit) as ended:
        load(Connected)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{variable}=")
    assert said.count("\n") == 1
    assert SECRET not in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECKILL_EXAMPLE_LISTEN", "[::]:50051"),
        ("SECKILL_EXAMPLE_LISTEN", "localhost:65535"),
        ("SECKILL_EXAMPLE_TARGET", "gateway:50051"),
        ("SECKILL_EXAMPLE_TARGET", "dns:gateway.shop.svc:50051"),
        ("SECKILL_EXAMPLE_TARGET", "dns://10.0.0.10:53/gateway:50051"),
        ("SECKILL_EXAMPLE_TARGET", "[::1]:50051"),
        ("SECKILL_EXAMPLE_TARGET", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("SECKILL_EXAMPLE_TARGET", "unix:/run/gateway.sock"),
        ("SECKILL_KAFKA_BOOTSTRAP", "kafka-0.kafka:9092,[::1]:9092"),
        ("SECKILL_REDIS_URL", "rediss://user:p%40ss@redis.shop.svc:6380/3"),
        ("SECKILL_REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("SECKILL_POSTGRES_DSN", "postgres://u:p@[::1]:5432/seckill?sslmode=require"),
        ("SECKILL_POSTGRES_DSN", "postgresql://u:p@a:5432,b:5433/seckill"),
        ("SECKILL_POSTGRES_DSN", "postgresql://u:p@/seckill?host=/run/postgresql"),
    ],
)
def test_every_usual_form_of_an_address_is_taken(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS, sockets, IPv6, several hosts."""
    # Of these some name a database, which a cluster has none of.
    monkeypatch.delenv("SECKILL_REDIS_CLUSTER", raising=False)
    for name, good in {**STORES, variable: value}.items():
        monkeypatch.setenv(name, good)
    load(Connected)


def test_unknown_variables_are_named_with_what_was_meant() -> None:
    """Variables of siblings, of the local stack and of Kubernetes are not this service's matter."""
    env = {
        "SECKILL_GATEWAY_RATE_USR": "5",
        "SECKILL_REDS_URL": "redis://127.0.0.1",
        "SECKILL_POSTGRES_DSN": "postgresql://127.0.0.1/seckill",
        "SECKILL_ORDER_BATCH_MAXX": "5",
        "SECKILL_GATEWAY_TARGET": "dns:///gateway:50051",
        "SECKILL_LOCAL_GATEWAY_PORT": "0",
        "SECKILL_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "SECKILL_GATEWAY_PORT_50051_TCP_ADDR": "10.0.0.1",
        "HOME": "/root",
    }

    class Gateway(ProcessSettings):
        gateway_rate_user: int = 1

    assert list(unknown_variables(Gateway, service="gateway", env=env)) == [
        "SECKILL_GATEWAY_RATE_USR is unknown; did you mean SECKILL_GATEWAY_RATE_USER?",
        "SECKILL_REDS_URL is unknown; did you mean SECKILL_REDIS_URL?",
    ]


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start rollback_svc, whose Redis does not exist, and wait for its end."""
    inherited = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
    return subprocess.run(
        [sys.executable, "-m", "rollback_svc"],
        env={**inherited, **STORES, "SECKILL_ROLLBACK_METRICS_LISTEN": "127.0.0.1:0", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        (
            {"SECKILL_ROLLBACK_METRICS_LISTEN": "127.0.0.1:99999"},
            2,
            "SECKILL_ROLLBACK_METRICS_LISTEN='127.0.0.1:99999': must be host:port",
        ),
        (
            {"SECKILL_ROLLBACK_PAGE_SIZ": "5"},
            2,
            "SECKILL_ROLLBACK_PAGE_SIZ is unknown; did you mean SECKILL_ROLLBACK_PAGE_SIZE?",
        ),
        (
            # Just more than fits behind the age and the timeout.
            {"SECKILL_ROLLBACK_RECONCILE_INTERVAL_S": "81"},
            2,
            "is 121, more than SECKILL_ORDER_ARRIVAL_MAX_S, which is 120",
        ),
        (
            {"SECKILL_ORDER_ARRIVAL_MAX_S": "99"},
            2,
            "is 100, more than SECKILL_ORDER_ARRIVAL_MAX_S, which is 99",
        ),
        (
            # No address of this machine: the process ends instead of serving.
            {
                "SECKILL_ROLLBACK_PAGE_SIZ": "5",
                "SECKILL_PROFILE": "development",
                "SECKILL_ROLLBACK_LISTEN": "192.0.2.1:50054",
            },
            1,
            "SECKILL_ROLLBACK_PAGE_SIZ is unknown",
        ),
    ],
    ids=[
        "port",
        "unknown in production",
        "lost orders come late",
        "polls end early",
        "unknown in development",
    ],
)
def test_a_service_says_at_start_what_is_wrong_with_its_environment(
    variables: dict[str, str], code: int, said: str
) -> None:
    """Production refuses a variable that nothing reads; development warns of it."""
    ended = start(**variables)
    assert ended.returncode == code
    # Before logs are configured on standard error, and in them on standard output.
    assert said in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr + ended.stdout
