"""
An AWS endpoint in a process of its own that answers at once: Secrets Manager and STS, as far as the benchmarks go.

It notes when each request arrived, on the clock that all processes of a machine share, and counts versions. moto takes
3 to 7 ms for a call, which would be most of what is measured; `Endpoint(kind="moto")` shows that.

    with Endpoint() as endpoint:
        ... AWS_ENDPOINT_URL=endpoint.url ...
        endpoint.seen()
"""

import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

ACCOUNT = "123456789012"


@dataclass
class Seen:
    """What arrived: operation -> count; secret name -> versions; (monotonic time, operation, secret name or ARN)."""

    counts: dict[str, int]
    versions: dict[str, int]
    arrivals: list[tuple[float, str, str]]


class Endpoint:
    """The process, seen from outside."""

    def __init__(self, kind: str = "canned") -> None:
        """`kind`: canned or moto."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.endpoint", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._process.stdout is None:
            raise AssertionError
        self.url, self._control = self._process.stdout.readline().split()

    def seen(self) -> Seen:
        """Return what arrived so far."""
        with urlopen(self._control, timeout=30) as answer:
            return Seen(**json.load(answer))

    def plant(self, secrets: dict[str, tuple[str, dict[str, str]] | None]) -> None:
        """Put secrets there without a request for each: name -> (current version, tags); None takes one away."""
        request = Request(self._control, data=json.dumps(secrets).encode(), method="PUT")
        with urlopen(request, timeout=60) as answer:
            answer.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # ends with its stdin


# --- the process itself


@dataclass
class _Account:
    """What is there. One lock: the answers take microseconds."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    arrivals: list[tuple[float, str, str]] = field(default_factory=list)

    def note(self, operation: str, name: str) -> None:
        self.arrivals.append((time.monotonic(), operation, name))
        self.counts[operation] += 1

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None = there is no such secret."""
        with self.lock:
            name = str(asked.get("Name") or asked.get("SecretId") or "")
            self.note(operation, name)
            if operation == "ListSecrets":
                return self.page(int(asked.get("NextToken", 0)), int(asked["MaxResults"]))
            if operation == "CreateSecret":
                self.add(name, asked.get("Tags", []))
            secret = self.secrets.get(name.rpartition(":secret:")[2].removesuffix("-AbCdEf"))
            if secret is None:
                return None
            if "SecretString" in asked:
                secret["versions"].append(asked.get("ClientRequestToken") or str(uuid.uuid4()))
                secret["SecretString"] = asked["SecretString"]
            current = secret["versions"][-1]
            told = {"ARN": secret["ARN"], "Name": secret["Name"]}
            if operation == "DescribeSecret":
                return told | {"Tags": secret["Tags"], "VersionIdsToStages": {current: ["AWSCURRENT"]}}
            told |= {"VersionId": current, "VersionStages": ["AWSCURRENT"]}
            return told | {"SecretString": secret["SecretString"]} if operation == "GetSecretValue" else told

    def add(self, name: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        arn = f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:{name}-AbCdEf"
        self.secrets[name] = {"ARN": arn, "Name": name, "Tags": tags, "versions": []}
        return self.secrets[name]

    def page(self, start: int, size: int) -> dict[str, Any]:
        """Return a page of all secrets: filters would let every one through here."""
        found = list(self.secrets.values())
        entries = [
            {
                "ARN": one["ARN"],
                "Name": one["Name"],
                "Tags": one["Tags"],
                "SecretVersionsToStages": {one["versions"][-1]: ["AWSCURRENT"]},
            }
            for one in found[start : start + size]
        ]
        more = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return {"SecretList": entries, **more}

    def plant(self, secrets: dict[str, tuple[str, dict[str, str]] | None]) -> None:
        with self.lock:
            for name, planted in secrets.items():
                if planted is None:
                    del self.secrets[name]
                    continue
                version, tags = planted
                made = self.add(name, [{"Key": key, "Value": value} for key, value in tags.items()])
                made["versions"].append(version)
                made["SecretString"] = "planted"

    def seen(self) -> dict[str, Any]:
        with self.lock:
            versions = {name: len(secret["versions"]) for name, secret in self.secrets.items()}
            return {"counts": dict(self.counts), "versions": versions, "arrivals": list(self.arrivals)}


def _handler(account: _Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._say(200, json.dumps(account.seen()).encode(), "application/json")

        def do_PUT(self) -> None:
            account.plant(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._say(200, b"", "text/plain")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = (self.headers.get("X-Amz-Target") or "").rpartition(".")[2]
            if not operation:
                action = parse_qs(body.decode())["Action"][0]
                account.note(action, "")
                result = f"<Account>{ACCOUNT}</Account><Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>A</UserId>"
                text = f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"
                self._say(200, text.encode(), "text/xml")
                return
            answer = account.answer(operation, json.loads(body))
            if answer is None:
                self._say(400, b'{"__type": "ResourceNotFoundException"}', "application/x-amz-json-1.1")
            else:
                self._say(200, json.dumps(answer).encode(), "application/x-amz-json-1.1")

        def _say(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _serve_moto(account: _Account) -> str:
    """Put moto behind the same counters; return its URL."""
    from tests.support.aws_server import AwsServer, Operation

    server = AwsServer()

    def note(operation: Operation) -> None:
        asked = json.loads(operation.body)
        account.note(operation.name, str(asked.get("Name") or asked.get("SecretId")))

    for name in ("CreateSecret", "DescribeSecret", "PutSecretValue"):
        server.do(name, note, times=1_000_000)
    return server.url


def _main(kind: str) -> None:
    account = _Account()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(account))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    control = f"http://127.0.0.1:{server.server_port}"
    if kind == "moto":
        print(_serve_moto(account), control, flush=True)
    else:
        print(control, control, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main(sys.argv[1])
