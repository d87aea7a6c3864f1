"""
A fast AWS in a process of its own: canned answers from memory, an optional delay, counts and times of what arrived.

The emulator answers as strictly as AWS and takes 2 ms for it, so that it would be the limit. This one answers some
8,000 calls a second from one asyncio process, and is only for measuring.

    with FastAws() as aws:
        ... AWS_ENDPOINT_URL=aws.url ...
        aws.seen().counts

    python -m bench.fast_aws       its own speed
"""

import asyncio
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from bench.fast_secrets import ACCOUNT, REGION, FastSecrets, Log, Refusal

_BATCH: Final = 20_000
"""Secrets in one request of `plant`."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """
    What arrived.

    Attributes:
        counts: operation -> requests that were carried out.
        refused: operation -> requests that were refused because of a quota.
        arrivals: (monotonic time, operation, secret name) of each; the clock is that of all processes of a machine.
    """

    counts: dict[str, int]
    refused: dict[str, int]
    arrivals: list[tuple[float, str, str]]


class FastAws:
    """The process, seen from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.fast_aws", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._process.stdout is None:
            raise AssertionError
        self.url, self._control = self._process.stdout.readline().split()

    def configure(self, *, delay_s: float = 0.0, quotas: bool = False) -> None:
        """Set what each response waits for, and whether AWS's rates hold (a bucket of one second's calls each)."""
        self._ask("PATCH", {"delay_s": delay_s, "quotas": quotas})

    def empty(self) -> Self:
        """Forget all secrets and what arrived, and answer at once again."""
        self._ask("DELETE", None)
        self.configure()
        return self

    def forget_arrivals(self) -> None:
        """Count from 0 again; the secrets stay."""
        self._ask("POST", {"forget": True})

    def seen(self) -> Seen:
        """Return what arrived since the last `empty` or `forget_arrivals`."""
        return Seen(**self._ask("GET", None))

    def counts(self) -> dict[str, int]:
        """Return what arrived as counts alone."""
        return dict(self._ask("GET", None, "/counts"))

    def written(self) -> dict[str, tuple[str, int, str]]:
        """Return name -> (current version, number of versions, value) of secrets that a request has written."""
        return {name: tuple(each) for name, each in self._ask("GET", None, "/written").items()}

    def plant(
        self,
        objects: Iterable[tuple[str, str, int]],
        tags: Sequence[Mapping[str, str]],
        *,
        age_s: float = 86_400,
        every_s: float = 0.0,
    ) -> None:
        """
        Add secrets without a request for each; some 150,000 a second. A name that is there gets the version now.

        Args:
            objects: (name, current version, index in `tags`).
            tags: each set of tags once.
            age_s: how long ago the first of them was created.
            every_s: how long after it the next one was, and so on.
        """
        batch: list[tuple[str, str, int]] = []
        at = time.time() - age_s
        for each in objects:
            batch.append(each)
            if len(batch) == _BATCH:
                self._plant(batch, tags, at, every_s)
                at += len(batch) * every_s
                batch = []
        self._plant(batch, tags, at, every_s)

    def remove(self, names: Iterable[str]) -> None:
        """Take secrets away, as another client would."""
        self._ask("POST", {"remove": list(names)})

    def cpu_s(self) -> float:
        """Return the CPU time that the process has used: 1 s a second is its limit."""
        return float(self._ask("GET", None, "/cpu"))

    def _plant(
        self, batch: Sequence[tuple[str, str, int]], tags: Sequence[Mapping[str, str]], at: float, every_s: float
    ) -> None:
        used = sorted({index for _, _, index in batch})
        new = {index: position for position, index in enumerate(used)}
        objects = [(name, version, new[index]) for name, version, index in batch]
        body = {"objects": objects, "tags": [tags[index] for index in used], "at": at, "every_s": every_s}
        self._ask("POST", body)

    def _ask(self, method: str, body: object, path: str = "/") -> Any:
        at = urlsplit(self._control)
        connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=300)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # ends with its stdin


# --- the process itself


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, as clients of AWS send them."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if len(body) < int(headers.get(b"content-length", 0)):
            return
        self._received = b""
        method, path, _ = lines[0].decode().split(" ")
        delay = self._server.delay(headers)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._answer, method, path, headers, body)
        else:
            self._answer(method, path, headers, body)

    def _answer(self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes) -> None:
        status, kind, answer = self._server.answer(method, path, headers, body)
        date = formatdate(usegmt=True)
        head = f"HTTP/1.1 {status} X\r\nDate: {date}\r\nContent-Type: {kind}\r\nx-amzn-RequestId: bench\r\n"
        if not self._transport.is_closing():
            self._transport.write(f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)


class _Server:
    """What both ports share."""

    def __init__(self) -> None:
        self.log = Log()
        self.regions: dict[str, FastSecrets] = {}
        self.delay_s = 0.0
        self.quotas_on = False

    def secrets(self, region: str) -> FastSecrets:
        """Return the secrets of a Region."""
        if (secrets := self.regions.get(region)) is None:
            secrets = self.regions[region] = FastSecrets(region, self.log)
            secrets.quotas_on = self.quotas_on
        return secrets

    def delay(self, headers: Mapping[bytes, bytes]) -> float:
        return self.delay_s if b"authorization" in headers else 0.0

    def answer(self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, str, bytes]:
        """Return status, media type and body."""
        if b"authorization" not in headers:
            return 200, "application/json", json.dumps(self._control(method, path, json.loads(body or b"{}"))).encode()
        if (target := headers.get(b"x-amz-target")) is None:
            return 200, "text/xml", self._sts(body).encode()
        status = 200
        try:
            scope = headers[b"authorization"].split(b"/")  # Credential=KEY/DAY/REGION/SERVICE/aws4_request
            secrets = self.secrets(scope[2].decode() if len(scope) > 2 else REGION)
            document = secrets.handle(target.rpartition(b".")[2].decode(), json.loads(body))
        except Refusal as refusal:
            status, document = 400, {"__type": refusal.code, "message": refusal.code}
        return status, "application/x-amz-json-1.1", json.dumps(document).encode()

    def _sts(self, body: bytes) -> str:
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        action = asked["Action"]
        self.log.counts[action] += 1
        if action == "GetCallerIdentity":
            result = (
                f"<Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>AIDABENCH</UserId><Account>{ACCOUNT}</Account>"
            )
        else:
            role = asked.get("RoleArn", "").rpartition("/")[2] or "bench"
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
            result = (
                f"<AssumedRoleUser><AssumedRoleId>AROABENCH:s</AssumedRoleId><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/"
                f"{role}/s</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIABENCHBENCHBENCH1</AccessKeyId>"
                "<SecretAccessKey>not-a-real-secret-access-key</SecretAccessKey><SessionToken>not-a-real-token"
                f"</SessionToken><Expiration>{until}</Expiration></Credentials>"
            )
        namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
        return (
            f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
            f"<ResponseMetadata><RequestId>bench</RequestId></ResponseMetadata></{action}Response>"
        )

    def _control(self, method: str, path: str, asked: dict[str, Any]) -> object:
        log = self.log
        match method, path:
            case "GET", "/counts":
                return log.counts
            case "GET", "/written":
                return {name: each for secrets in self.regions.values() for name, each in secrets.written().items()}
            case "GET", "/cpu":
                return time.process_time()
            case "GET", _:
                return vars(log)
            case "PATCH", _:
                self.delay_s, self.quotas_on = asked["delay_s"], asked["quotas"]
                for secrets in self.regions.values():
                    secrets.quotas_on = self.quotas_on
            case "DELETE", _:
                self.regions.clear()
                log.clear()
            case "POST", _ if "objects" in asked:
                self.secrets(REGION).plant(asked["objects"], asked["tags"], asked["at"], asked["every_s"])
            case "POST", _ if "remove" in asked:
                self.secrets(REGION).remove(asked["remove"])
            case "POST", _:
                log.clear()
        return None


async def _serve() -> None:
    loop, shared = asyncio.get_running_loop(), _Server()
    urls = []
    for _ in ("aws", "control"):
        listening = await loop.create_server(lambda: _Connection(shared), "127.0.0.1", 0, backlog=512)
        urls.append("http://{}:{}".format(*listening.sockets[0].getsockname()))
    print(*urls, flush=True)
    # In a thread: whoever started this holds the other end of stdin.
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> int:
    """Print how many calls a second it answers, asked without the SDK, so that the SDK is not what is measured."""
    body = json.dumps({"SecretId": "speed"}).encode()
    head = {"Authorization": "bench", "X-Amz-Target": "secretsmanager.DescribeSecret"}
    with FastAws() as aws:
        aws.plant([("speed", "00000000-0000-4000-8000-000000000000", 0)], [{"a": "b"}])
        at, seconds = urlsplit(aws.url), 2.0
        until = time.monotonic() + seconds
        answered = [0] * 4

        def ask(number: int) -> None:
            connection = http.client.HTTPConnection(str(at.hostname), at.port)
            while time.monotonic() < until:
                connection.request("POST", "/", body=body, headers=head)
                if connection.getresponse().read()[:1] != b"{":
                    raise AssertionError
                answered[number] += 1

        before = aws.cpu_s()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(answered))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = aws.cpu_s() - before
    print(f"{sum(answered) / seconds:,.0f} DescribeSecret a second, {used / sum(answered) * 1e6:.0f} µs of CPU each")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
    else:
        sys.exit(main())
