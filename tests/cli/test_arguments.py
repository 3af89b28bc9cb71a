"""No argument of any command ends in a traceback."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seckill_cli
from devstack.certificates import load_or_create
from devstack.mesh import REPOSITORY_ROOT
from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from seckill_cli.demo import command as demo
from seckill_cli.local import stack

# They start and stop servers, once their arguments are understood.
STARTERS = frozenset({"up", "down", "demo"})
NOWHERE = "127.0.0.1:1"
TARGETS = [NOWHERE, "127.0.0.1:99999", "ipv4:nonsense", "unix:/nonexistent", "[::1", "ä", ""]
WORDS = [
    *("", "0", "-1", "9" * 20, "99999999999", "1e309", "nan", "٣", "1.5", "true"),
    *("9.90", "99999999999999999999", "1.234", "+999999999d", "+1h", "now", "90s", "9999d"),
    *("9999-12-31T23:59:59-12:00", "0001-01-01", "2027-03-14T02:30:00", "+-1s", "2026-W01-1"),
    *("CNY", "ISK", "XAU", "ZZZ", "cny", "paid", "[/b]", "\x1b[2J", "a\nb", "\udcff", "0:5"),
    *("x" * 300, "01JZZZZZZZZZZZZZZZZZZZZZZZ", "..", "{}", "%s", "\u202e"),
]
# Small enough to be done at once, or refused.
NUMBERS = ["-1", "0", "1", "2", "9" * 20, "99999999999", "two", ""]
PATHS = ["", ".", "missing/x", "x" * 300, "plain", "a\x1bb"]


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


COMMANDS = dict(commands(typer.main.get_command(seckill_cli.app)))


def values(parameter: Any) -> st.SearchStrategy[str]:
    """What a parameter is given."""
    kind = str(parameter.type_descriptor.annotation)
    if (parameter.envvar or "").endswith("_TARGET"):
        return st.sampled_from(TARGETS)
    if "Path" in kind:
        return st.sampled_from(PATHS)
    if "int" in kind or "float" in kind:
        return st.sampled_from(NUMBERS)
    return st.sampled_from(WORDS) | st.text(max_size=20).filter(lambda text: "\0" not in text)


@st.composite
def arguments(draw: st.DrawFn, words: tuple[str, ...]) -> list[str]:
    """Some of a command's options and all of its arguments, with values of all kinds."""
    options: list[str] = []
    positional: list[str] = []
    for parameter in COMMANDS[words].params:
        if not hasattr(parameter, "is_flag"):
            positional.append(draw(values(parameter)))
        elif parameter.required or draw(st.booleans()):
            option = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
            options += [option] if parameter.is_flag else [option, draw(values(parameter))]
    # Behind "--" none is an option.
    return [*words, *options, "--", *positional]


def run(argv: list[str]) -> tuple[int, str]:
    """Run the command in this process; returns its status and what it said."""
    said = io.StringIO()
    previous, sys.argv = sys.argv, ["seckill", *argv]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            seckill_cli.main()
        status: Any = 0
    except SystemExit as ended:
        status = ended.code or 0
    finally:
        sys.argv = previous
    assert isinstance(status, int), status
    return status, said.getvalue()


@pytest.mark.parametrize("words", [one for one in COMMANDS if one[0] not in STARTERS], ids=" ".join)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_argument_ends_in_a_status(
    data: st.DataObject,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nothing at any address: 0, 1 or 2, and words about it; never an exception."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for service in ("GATEWAY", "INVENTORY", "ORDER", "ROLLBACK"):
        monkeypatch.setenv(f"SECKILL_{service}_TARGET", NOWHERE)
    status, said = run(data.draw(arguments(words), label="seckill"))
    assert status in {0, 1, 2}
    assert said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", sorted(STARTERS))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_starts_servers_understands_its_arguments_first(
    data: st.DataObject, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that it does not take end it with words about them, and start nothing."""
    monkeypatch.setenv("COLUMNS", "200")
    started: list[str] = []
    for starter in ("start_background", "stop_background"):
        for module in (stack, demo):
            if hasattr(module, starter):
                monkeypatch.setattr(module, starter, lambda *_, **__: started.append(name))
    more = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)
    argv = data.draw(arguments((name,)), label="seckill")
    taken = COMMANDS[name,].params
    # Neither takes a word, so that one too many is always wrong.
    assert all(hasattr(parameter, "is_flag") for parameter in taken)
    status, said = run([*argv, *data.draw(more, label="words")])
    assert status in {1, 2}
    assert said
    assert "Traceback" not in said
    assert not started


@pytest.mark.parametrize("option", ["--seconds", "--pay-ratio", "--payment-window"])
@pytest.mark.parametrize("value", ["nan", "-1", "inf"])
def test_the_demo_refuses_what_is_no_number_before_it_starts(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is in no range, although no bound says so."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(demo, "start_background", lambda **_: pytest.fail("started"))
    status, said = run(["demo", option, value])
    assert status == 2
    assert f"'{option}'" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--price", "99999999999999999999"),
        ("--limit", "99999999999"),
        ("--units", "0"),
        ("--end", "+999999999d"),
        ("--end", "9999-12-31T23:59:59-12:00"),
        ("--start", "soon"),
        ("--payment-window", "15"),
        ("--currency", "ZZZ"),
    ],
)
def test_the_error_names_the_option(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any service is asked."""
    monkeypatch.setenv("COLUMNS", "200")
    status, said = run(["sale", "create", "x", "--units", "1", option, value])
    assert status == 2
    assert f"'{option}'" in said


def seckill(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, without any SECKILL_ variable but those given."""
    inherited = {key: text for key, text in os.environ.items() if "SECKILL_" not in key}
    return subprocess.run(
        [sys.executable, "-m", "seckill_cli", *arguments],
        env={**inherited, "PYTHONPATH": str(REPOSITORY_ROOT), **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_stack_the_command_asks_for_an_address(tmp_path: Path) -> None:
    """It does not talk to whatever listens on the usual port."""
    done = seckill("sale", "list", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "--inventory or SECKILL_INVENTORY_TARGET" in line
    assert not done.stdout


def test_a_service_that_does_not_answer_is_named_with_its_setting(tmp_path: Path) -> None:
    """Address, option and variable, in one line."""
    done = seckill("order", "list", "--order", NOWHERE, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert NOWHERE in line
    assert "--order, SECKILL_ORDER_TARGET" in line


def test_files_for_tls_are_named_if_they_cannot_be_read(tmp_path: Path) -> None:
    """And a certificate without its key is refused."""
    done = seckill("--ca", "missing.pem", "sale", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: --ca missing.pem: No such file or directory\n"
    assert "--key" in seckill("--cert", "x.pem", "sale", "list", cwd=tmp_path).stderr


def test_a_service_behind_tls_is_called_with_the_roots_options(tmp_path: Path) -> None:
    """Trusting the authority, and showing a certificate."""
    files = load_or_create(tmp_path / "certificates")
    server = grpc.server(ThreadPoolExecutor(1))
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(_NoSales(), server)  # type: ignore[abstract]
    credentials = grpc.ssl_server_credentials(
        [(files.server_key.read_bytes(), files.server.read_bytes())],
        root_certificates=files.authority.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        target = ("sale", "list", "--inventory", f"localhost:{port}")
        shown = ("--ca", str(files.authority), "--cert", str(files.client))
        done = seckill(*shown, "--key", str(files.client_key), *target, cwd=tmp_path)
        assert (done.returncode, "state" in done.stdout) == (0, True), done.stderr
        assert seckill("--ca", str(files.authority), *target, cwd=tmp_path).returncode == 1
    finally:
        server.stop(None)


class _NoSales(inventory_pb2_grpc.InventoryServiceServicer):
    def ListSales(
        self, _request: inventory_pb2.ListSalesRequest, _context: grpc.ServicerContext
    ) -> inventory_pb2.ListSalesResponse:
        return inventory_pb2.ListSalesResponse()


def test_output_that_the_terminal_cannot_encode_is_escaped(tmp_path: Path) -> None:
    """An ASCII terminal."""
    done = seckill("sale", "list", "--inventory", "ä:1", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
