"""`python -m phasesync.emulator`: a process that serves any AWS SDK until a signal ends it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3.session
import pytest

from phasesync.emulator.__main__ import main
from tests.support.waiting import HANG_GUARD_S, wait_until

EXPORTS = re.compile(r"(AWS_\w+)=(\S+)")


@contextmanager
def emulator(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Start the command; yield its process, and the variables that it says to export."""
    process = subprocess.Popen(
        [sys.executable, "-m", "phasesync.emulator", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder), "HOME": str(folder)},
        cwd=folder,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        yield process, dict(EXPORTS.findall("".join(line for line in lines if line.startswith("export "))))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def client(variables: dict[str, str], service: str) -> Any:
    make: Any = boto3.session.Session().client
    return make(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_an_sdk_until_a_signal_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with emulator(tmp_path, "--port", "0") as (process, variables):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", variables["AWS_ENDPOINT_URL"])
        secrets = client(variables, "secretsmanager")
        secrets.create_secret(Name="shop", SecretString="one")
        assert secrets.get_secret_value(SecretId="shop")["SecretString"] == "one"
        with pytest.raises(secrets.exceptions.InvalidParameterException):  # which bare moto would take
            secrets.tag_resource(SecretId="shop", Tags=[{"Key": "aws:mine", "Value": "x"}])
        secrets.close()

        process.send_signal(number)

        assert process.wait(HANG_GUARD_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_it_takes_the_port_and_the_address_that_it_is_given(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with emulator(tmp_path, "--port", str(port), "--host", "localhost") as (_, variables):
        assert variables["AWS_ENDPOINT_URL"] == f"http://localhost:{port}"
        sts = client(variables, "sts")
        assert sts.get_caller_identity()["Account"] == "123456789012"
        sts.close()


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str], handlers: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["--port", str(port)]) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"error: cannot listen on 127.0.0.1:{port}: the port is in use\nhint: --port 0 takes a free port\n"
    )


def test_an_address_of_another_machine_is_said(capsys: pytest.CaptureFixture[str], handlers: None) -> None:
    assert main(["--port", "0", "--host", "192.0.2.1"]) == 1
    assert "error: cannot listen on 192.0.2.1:0: Cannot assign requested address" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_a_name_without_an_address_is_said(host: str, capsys: pytest.CaptureFixture[str], handlers: None) -> None:
    assert main(["--port", "0", "--host", host]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: cannot listen on {host}:0: ")
    assert "Unknown error" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_variables_that_cannot_be_written_end_it(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "phasesync.emulator", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=HANG_GUARD_S,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the variables to stdout: No space left on device\n"


def test_it_serves_without_stdout(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"exec {shlex.quote(sys.executable)} -m phasesync.emulator --port {port} >&-"
    process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:

        def listens() -> bool:
            assert process.poll() is None
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, what="it listens")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=HANG_GUARD_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("port", ["http", "-1", "65536"])
def test_what_is_no_port_is_wrong_usage(port: str, capsys: pytest.CaptureFixture[str], handlers: None) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])
    assert ended.value.code == 2
    assert f"{port!r} is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["moto", "flask", "flask_cors"])
def test_without_the_extra_it_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    assert main(["--port", "0"]) == 6

    said = capsys.readouterr().err
    assert f"needs an AWS emulator, which is not installed: {module} is missing" in said
    assert "hint: pip install 'phasesync[demo]'" in said


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of signals back."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)
