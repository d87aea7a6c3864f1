"""
An AWS on loopback that enforces: signatures, session tokens, IAM policies, trust policies and External IDs.

Our own emulator (`phasesync.emulator`) knows Secrets Manager better and is the one to inject faults into; ministack
is for who may do what. It pins botocore exactly, so it has an environment of its own inside the one of the tests, which
`make` makes.

    with start_ministack(folder) as ministack:
        account = Account(ministack, "111122223333")      see `accounts.py`

It is started once for each process of a test run. Tests do not disturb each other because each has accounts of its own.

What ministack 1.5.33 does otherwise than AWS, as seen here, so that no test may build on it:
- The secret of an administrator's key (12 digits, the account's number) is not checked everywhere. Users' keys are.
- PutSecretValue with a token that was spent overwrites that version; CreateSecret ignores its token.
- Secrets Manager takes any KmsKeyId, encrypts nothing and asks for no right on the key.
- CreateSecret with tags asks for secretsmanager:CreateSecret alone, AWS for secretsmanager:TagResource as well.
- A name that does not exist yet is matched as an ARN without the six characters at its end.
- AssumeRole within one account asks for an identity policy even where the trust policy names the user itself.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_server
from types import TracebackType
from typing import Any, Self

ENVIRONMENT = Path(sys.prefix) / "ministack"
"""Where `make` puts it: the Makefile's `$(VENV)/ministack`."""
PROGRAM = Path(__file__).with_name("ministack_program.py")
START_TIMEOUT_S = 60
ROOT_SECRET = "the-secret-of-every-administrator"

_SETTINGS = {
    "AUTH": "true",
    "BIND_HOST": "127.0.0.1",
    "SERVICES": "iam,kms,secretsmanager,sts",
    "AWS_SECRET_ACCESS_KEY": ROOT_SECRET,
    # Off: two more listeners, and a search for containers of its own to remove.
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "DOCKER_HOST": "unix:///nonexistent/docker.sock",
    "MINISTACK_WORKER_THREADS": "4",
}


class MinistackUnavailable(Exception):
    """ministack is not installed or did not start; the text says why."""


class Ministack:
    """A running ministack."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self._session: Any = None
        self._clients: dict[tuple[str, ...], Any] = {}

    def client(self, service: str, *, region: str, key_id: str, secret: str, token: str | None = None) -> Any:
        """Return a plain client of boto3; kept, so that it need not be closed."""
        place = (service, region, key_id, secret, token or "")
        if place not in self._clients:
            import boto3.session
            from botocore.config import Config

            self._session = self._session or boto3.session.Session()
            # Without validation a test may ask for a session of one second, which AWS would refuse.
            config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
            self._clients[place] = self._session.client(
                service,
                region_name=region,
                endpoint_url=self.url,
                config=config,
                aws_access_key_id=key_id,
                aws_secret_access_key=secret,
                aws_session_token=token,
            )
        return self._clients[place]

    def stop(self) -> None:
        """End it. Safe to repeat."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_ministack(folder: Path, environment: Path = ENVIRONMENT) -> Ministack:
    """
    Start ministack on a free port of loopback; a quarter of a second on an ordinary machine.

    Args:
        folder: an empty one for its log and whatever it writes.
        environment: the virtual environment that it is installed in.

    Raises:
        MinistackUnavailable: it is not installed there, or did not start.
    """
    python = environment / "bin" / "python"
    if not python.exists():
        raise MinistackUnavailable(
            f"ministack, the AWS of these tests, is not installed for this Python: {environment} is missing. "
            "`make pytest` makes it; so does `make .venv/.ministack`, for the environment .venv"
        )
    log = folder / "ministack.log"
    # We hold the port before it starts: no one else can take it, and a first request waits instead of failing.
    with create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
        listening.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [str(python), "-I", str(PROGRAM), str(listening.fileno())],
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "GATEWAY_PORT": str(port)}
            | _SETTINGS,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for the tests, which stop it when they are done.
        )
    ministack = Ministack(process, f"http://127.0.0.1:{port}", log)
    try:
        answer = _ask(port, "/_ministack/ready")
    except (OSError, HTTPException):
        answer = 0
    if answer != 200:
        ministack.stop()
        last = " | ".join(log.read_text(errors="replace").splitlines()[-5:])
        raise MinistackUnavailable(f"ministack did not start (answer {answer}): {last}")
    return ministack


def _ask(port: int, path: str) -> int:
    """Return the status of an answer; waits until it serves, and fails when it dies before."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status
