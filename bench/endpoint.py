"""
An AWS in a process of its own: the emulator, which answers as strictly as AWS does, and a look at what arrived.

It notes when each request arrived, on the clock that all processes of a machine share, and counts versions. An answer
takes it about 2 ms, which is in the figures; AWS takes longer.

    with Endpoint() as endpoint:
        ... AWS_ENDPOINT_URL=endpoint.url ...
        endpoint.seen()
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from phasesync.emulator import AwsEmulator
from urllib.request import ProxyHandler, Request, build_opener

_QUOTAS: Final = "quotas"
_NO_LIMIT: Final = sys.maxsize
_open: Final = build_opener(ProxyHandler({})).open
"""The process is on this machine; a proxy is not."""


@dataclass
class Seen:
    """What arrived: operation -> count; secret name -> versions; (monotonic time, operation, secret name or ARN)."""

    counts: dict[str, int]
    versions: dict[str, int]
    arrivals: list[tuple[float, str, str]]
    failed: int = 0
    """Requests that failed on purpose."""


class Endpoint:
    """The process, seen from outside."""

    def __init__(self, *, rate_limiter: bool = False) -> None:
        """
        Start it.

        Args:
            rate_limiter: whether AWS's request rates and its 100 versions a secret hold; without, what is measured is
                who calls and not where AWS stops it.
        """
        arguments = [sys.executable, "-m", "bench.endpoint", *([_QUOTAS] if rate_limiter else [])]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None:
            raise AssertionError
        self.url, self._control = self._process.stdout.readline().split()

    def seen(self) -> Seen:
        """Return what arrived so far."""
        with _open(self._control, timeout=30) as answer:
            return Seen(**json.load(answer))

    def empty(self) -> Self:
        """Forget all secrets and what arrived; quicker than another process, which takes seconds to start."""
        with _open(Request(self._control, method="DELETE"), timeout=30) as answer:
            answer.read()
        return self

    def fail(self, share: float) -> None:
        """Have this share of all requests fail from now on: lost before or after, refused, throttled, garbled."""
        request = Request(self._control, data=json.dumps(share).encode(), method="PATCH")
        with _open(request, timeout=30) as answer:
            answer.read()

    def failed(self) -> int:
        """Return how many requests failed on purpose."""
        return self.seen().failed

    def plant(self, secrets: dict[str, tuple[str, dict[str, str]] | None]) -> dict[str, str]:
        """
        Change secrets without a request for each, as another writer would.

        Args:
            secrets: name -> (current version, tags), of which the version is new where the name is there already; None
                takes one away.

        Returns:
            Name -> ARN, of those that are there now.
        """
        request = Request(self._control, data=json.dumps(secrets).encode(), method="PUT")
        with _open(request, timeout=120) as answer:
            arns: dict[str, str] = json.load(answer)
        return arns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # ends with its stdin


# --- the process itself


def _main(rate_limiter: bool) -> None:
    # Here, so that a benchmark itself does not pay for moto.
    from phasesync.emulator import AwsEmulator, Operation
    from phasesync.emulator.faults import DROP, Answer, When, garbled
    from phasesync.emulator.http import LoopbackServer, Reply
    from phasesync.emulator.outsider import ACCOUNT, REGION

    aws = AwsEmulator(throttling=rate_limiter)
    guard = threading.Lock()
    arrivals: list[tuple[float, str, str]] = []
    faults = {"share": 0.0, "failed": 0}
    broken = Answer("InternalServiceError", status=500)
    wrong: dict[When, tuple[Answer, ...]] = {
        "before": (DROP, broken, Answer("ThrottlingException")),
        "after": (DROP, broken, garbled()),
    }

    def note(when: When, operation: Operation) -> Answer | None:
        with guard:
            if when == "before":
                arrivals.append((time.monotonic(), operation.name, operation.secret_id or ""))
            # Each request comes by twice, before it is carried out and after it.
            if random.random() >= faults["share"] / 2:
                return None
            faults["failed"] += 1
        return random.choice(wrong[when])

    def empty() -> None:
        aws.reset()
        if not rate_limiter:
            aws.limits.versions = _NO_LIMIT
        aws.on_request = note
        with guard:
            arrivals.clear()
            faults.update(share=0.0, failed=0)

    def seen() -> Seen:
        with aws.state.lock:
            versions = {str(listed.name): len(listed.versions) for listed in aws.state.secrets(ACCOUNT, REGION)}
        with guard:
            counts = Counter(name for _, name, _ in arrivals)
            return Seen(counts, versions, list(arrivals), int(faults["failed"]))

    def control(method: str, _path: str, _headers: Mapping[str, str], body: bytes) -> Reply:
        answer: object = None
        match method:
            case "GET":
                answer = vars(seen())
            case "PUT":
                answer = _plant(aws, json.loads(body))
            case "PATCH":
                faults["share"] = json.loads(body)
            case "DELETE":
                empty()
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    empty()
    print(aws.url, LoopbackServer(control).url, flush=True)
    sys.stdin.read()


def _plant(aws: "AwsEmulator", secrets: Mapping[str, tuple[str, dict[str, str]] | None]) -> dict[str, str]:
    present, arns = set(aws.outside.names()), {}
    for name, planted in secrets.items():
        if planted is None:
            aws.outside.delete(name, recovery_days=None)
            continue
        version, tags = planted
        if name in present:
            aws.outside.put(name, "planted again", ClientRequestToken=version)
            arns[name] = str(aws.outside.describe(name)["ARN"])
        else:
            arns[name] = aws.outside.create(name, "planted", tags=tags, ClientRequestToken=version)
    return arns


if __name__ == "__main__":
    _main(_QUOTAS in sys.argv[1:])
