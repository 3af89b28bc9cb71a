"""Settings that say how stores are reached fit together, or name what does not."""

from pathlib import Path

import pytest

from devstack.authority import Authority, Issued
from seckill.runtime.settings import load
from seckill.runtime.store_settings import KafkaSettings, PostgresSettings, RedisSettings

SECRET = "hunter2"
PLAIN = {
    "SECKILL_REDIS_URL": "rediss://127.0.0.1:6379/0",
    "SECKILL_KAFKA_BOOTSTRAP": "127.0.0.1:9092",
    "SECKILL_POSTGRES_DSN": f"postgresql://u:{SECRET}@127.0.0.1:5432/seckill",
}
TLS = {"SECKILL_KAFKA_SECURITY_PROTOCOL": "SSL"}
STORES = ("REDIS", "KAFKA", "POSTGRES")


class Connected(RedisSettings, KafkaSettings, PostgresSettings):
    """Settings of a service that uses everything."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    """Return a certificate."""
    return authority.issue("client")


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changes: str
) -> str:
    """Return the one line that `load` prints before it exits with 2."""
    for name, value in {**PLAIN, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(Connected)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert SECRET not in said
    return said


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", ["CA", "CERTIFICATE", "KEY"])
def test_a_file_that_cannot_be_read_is_named_with_its_variable(
    store: str,
    name: str,
    issued: Issued,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Missing, and a directory; the two of a pair are given together."""
    pair = {"CERTIFICATE": str(issued.certificate), "KEY": str(issued.key)}
    for path, why in ((tmp_path / "none.pem", "No such file"), (tmp_path, "Is a directory")):
        given = {"CA": str(path)} if name == "CA" else {**pair, name: str(path)}
        files = {f"SECKILL_{store}_TLS_{kind}": value for kind, value in given.items()}
        said = refused(monkeypatch, capsys, **TLS, **files)
        assert said.startswith(f"SECKILL_{store}_TLS_{name}={str(path)!r}: cannot be read: {why}")


@pytest.mark.parametrize("store", STORES)
def test_a_key_of_another_certificate_is_named(
    store: str,
    authority: Authority,
    issued: Issued,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both variables, as either may be the wrong one."""
    other = authority.issue("other")
    said = refused(
        monkeypatch,
        capsys,
        **TLS,
        **{
            f"SECKILL_{store}_TLS_CERTIFICATE": str(issued.certificate),
            f"SECKILL_{store}_TLS_KEY": str(other.key),
        },
    )
    assert said.startswith(f"SECKILL_{store}_TLS_KEY={str(other.key)!r}: is not the key of")
    assert f"SECKILL_{store}_TLS_CERTIFICATE" in said


def test_what_a_file_holds_is_checked(
    authority: Authority,
    issued: Issued,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A key for a certificate, a certificate for a key, a key with a password, one of a pair."""
    locked = authority.issue("locked", password="secret")
    certificate, key = str(issued.certificate), str(issued.key)
    cases: list[tuple[dict[str, str], str]] = [
        ({"CA": key}, "SECKILL_REDIS_TLS_CA={0!r}: holds no certificate"),
        ({"CERTIFICATE": key, "KEY": key}, "SECKILL_REDIS_TLS_CERTIFICATE={0!r}: holds no"),
        ({"CERTIFICATE": certificate, "KEY": certificate}, "SECKILL_REDIS_TLS_KEY={1!r}: holds no"),
        (
            {"CERTIFICATE": str(locked.certificate), "KEY": str(locked.key)},
            "SECKILL_REDIS_TLS_KEY={2!r}: is encrypted",
        ),
        ({"CERTIFICATE": certificate}, "SECKILL_REDIS_TLS_CERTIFICATE and SECKILL_REDIS_TLS_KEY"),
        ({"KEY": key}, "SECKILL_REDIS_TLS_CERTIFICATE and SECKILL_REDIS_TLS_KEY"),
    ]
    for files, expected in cases:
        with monkeypatch.context() as patch:
            given = {f"SECKILL_REDIS_TLS_{kind}": value for kind, value in files.items()}
            said = refused(patch, capsys, **given)
            assert said.startswith(expected.format(key, certificate, str(locked.key)))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"SECKILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "SECKILL_KAFKA_SASL_USERNAME"),
        (
            {"SECKILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "SECKILL_KAFKA_SASL_USERNAME": "mesh"},
            "SECKILL_KAFKA_SASL_PASSWORD",
        ),
        ({"SECKILL_KAFKA_SASL_USERNAME": "mesh"}, "SECKILL_KAFKA_SASL_USERNAME"),
        ({"SECKILL_KAFKA_SASL_PASSWORD": SECRET}, "SECKILL_KAFKA_SASL_PASSWORD"),
        ({"SECKILL_KAFKA_SECURITY_PROTOCOL": "TLS"}, "SECKILL_KAFKA_SECURITY_PROTOCOL"),
        ({"SECKILL_KAFKA_SASL_MECHANISM": "GSSAPI"}, "SECKILL_KAFKA_SASL_MECHANISM"),
        ({"SECKILL_POSTGRES_POOLER": "session"}, "SECKILL_POSTGRES_POOLER"),
        ({"SECKILL_REDIS_PREFIX": "shop:b"}, "SECKILL_REDIS_PREFIX"),
        (
            {"SECKILL_POSTGRES_DSN": f"postgresql://u:{SECRET}@h/db?sslmode=sometimes"},
            "sslmode in SECKILL_POSTGRES_DSN",
        ),
        (
            {"SECKILL_POSTGRES_DSN": f"postgresql://u:{SECRET}@h/db?sslrootcert=/no/such.pem"},
            "SECKILL_POSTGRES_DSN: sslrootcert='/no/such.pem'",
        ),
        (
            {"SECKILL_REDIS_URL": f"rediss://:{SECRET}@h/0?ssl_ca_certs=/no/such.pem"},
            "SECKILL_REDIS_URL: ssl_ca_certs='/no/such.pem'",
        ),
    ],
)
def test_what_contradicts_itself_is_one_line_that_names_a_variable(
    changes: dict[str, str],
    names: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A user without SASL, SASL without a user, a mode that does not exist, files in addresses."""
    assert refused(monkeypatch, capsys, **changes).startswith(names)


@pytest.mark.parametrize(
    ("store", "changes", "names"),
    [
        ("KAFKA", {}, "SECKILL_KAFKA_TLS_CA needs SECKILL_KAFKA_SECURITY_PROTOCOL"),
        (
            "REDIS",
            {"SECKILL_REDIS_URL": "redis://h/0"},
            "SECKILL_REDIS_TLS_CA needs SECKILL_REDIS_URL",
        ),
        (
            "REDIS",
            {"SECKILL_REDIS_URL": "rediss://h/0?ssl_ca_certs=/x"},
            "SECKILL_REDIS_TLS_CA and ssl_ca_certs in SECKILL_REDIS_URL",
        ),
        (
            "POSTGRES",
            {"SECKILL_POSTGRES_DSN": "postgresql://h/db?sslmode=disable"},
            "SECKILL_POSTGRES_TLS_CA contradicts sslmode=disable",
        ),
        (
            "POSTGRES",
            {"SECKILL_POSTGRES_DSN": "postgresql://h/db?sslrootcert=/x"},
            "SECKILL_POSTGRES_TLS_CA and sslrootcert in SECKILL_POSTGRES_DSN",
        ),
    ],
)
def test_files_for_a_connection_in_clear_are_refused(
    store: str,
    changes: dict[str, str],
    names: str,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever names an authority means TLS; two answers to one question are none."""
    changes = {**changes, f"SECKILL_{store}_TLS_CA": str(authority.certificate)}
    assert refused(monkeypatch, capsys, **changes).startswith(names)


def test_without_any_of_them_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drivers decide by the addresses, as they always did."""
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    settings = load(Connected)
    assert settings.redis_tls() is None
    assert settings.postgres_tls() is None
    assert settings.kafka_cluster().security == {"security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize(
    ("url", "cluster", "named"),
    [
        ("redis://a:1,b:2", "false", "SECKILL_REDIS_CLUSTER"),
        ("redis://a:1,b:2/3", "true", "SECKILL_REDIS_URL"),
        ("redis://a:1/3", "true", "SECKILL_REDIS_PREFIX"),
        ("unix:///a.sock", "true", "SECKILL_REDIS_CLUSTER"),
        ("redis://a:1,b:x", "true", "SECKILL_REDIS_URL"),
    ],
)
def test_an_address_that_does_not_fit_a_cluster_is_named(
    url: str,
    cluster: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Several nodes without the setting; a database number, a socket, a bad port with it."""
    changes = {"SECKILL_REDIS_URL": url, "SECKILL_REDIS_CLUSTER": cluster}
    assert named in refused(monkeypatch, capsys, **changes)


def test_each_node_of_a_cluster_has_the_user_of_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands around the nodes is said of all of them."""
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECKILL_REDIS_CLUSTER", "true")
    monkeypatch.setenv("SECKILL_REDIS_URL", f"rediss://me:{SECRET}@a:1,b:2/0?socket_timeout=3")
    assert load(Connected).redis_addresses() == [
        f"rediss://me:{SECRET}@a:1/0?socket_timeout=3",
        f"rediss://me:{SECRET}@b:2/0?socket_timeout=3",
    ]
