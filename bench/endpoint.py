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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from phasesync.emulator import AwsEmulator, Operation
    from phasesync.emulator.access import Denial
    from phasesync.emulator.faults import Answer, When
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


class Written(NamedTuple):
    """One version of a secret: its id, its text, when it was written (seconds since 1970), and by another than us."""

    version: str
    text: str
    at: float
    by_others: bool


class Endpoint:
    """The process, seen from outside."""

    def __init__(self, *, rate_limiter: bool = False, seed: int | None = None) -> None:
        """
        Start it.

        Args:
            rate_limiter: whether AWS's request rates and its 100 versions a secret hold; without, what is measured is
                who calls and not where AWS stops it.
            seed: of the faults' dice; None = another one each time.
        """
        arguments = [sys.executable, "-m", "bench.endpoint", *([_QUOTAS] if rate_limiter else [])]
        arguments += [] if seed is None else [f"seed={seed}"]
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

    # --- what happens to AWS, and what others do there

    def outside(self, operation: str, **arguments: object) -> str | None:
        """Carry out an operation of Secrets Manager as somebody else; return AWS's error code, None if it went well."""
        code: str | None = self._do("outside", operation=operation, arguments=arguments)
        return code

    def throttle(self, share: float) -> None:
        """Have AWS throttle this share of all requests from now on."""
        self._do("throttle", share=share)

    def refuse(self, access_key_id: str | None) -> None:
        """Have AWS know an access key no longer, from now on; None = it knows every key again."""
        self._do("refuse", access_key_id=access_key_id)

    def hang_up(self, on: bool) -> None:
        """Have every connection end before its request is carried out, from now on."""
        self._do("hang_up", on=on)

    def deny(self, action: str | None) -> None:
        """Deny an IAM action to everybody from now on; None = nothing is denied."""
        self._do("deny", action=action)

    def written(self) -> dict[str, list["Written"]]:
        """Return secret name -> every version that it ever had, in the order in which they came."""
        found: dict[str, list[list[Any]]] = self._do("written")
        return {name: [Written(*version) for version in versions] for name, versions in found.items()}

    def silence(self, on: bool) -> None:
        """Have no request answered from now on; when this ends, those that wait are carried out, late."""
        self._do("silence", on=on)

    def _do(self, command: str, **arguments: object) -> Any:
        request = Request(self._control, data=json.dumps([command, arguments]).encode(), method="POST")
        with _open(request, timeout=120) as answer:
            return json.load(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # ends with its stdin


# --- the process itself


class _Aws:
    """The emulator, what arrived at it, and what is wrong with it now."""

    def __init__(self, rate_limiter: bool, seed: str | None) -> None:
        # Here, so that a benchmark itself does not pay for moto.
        from phasesync.emulator import AwsEmulator
        from phasesync.emulator.faults import DROP, Answer, garbled

        broken = Answer("InternalServiceError", status=500)
        self._throttled = Answer("ThrottlingException", "Rate exceeded")
        self._unknown_key = Answer("UnrecognizedClientException", "The security token in the request is invalid.")
        self._dropped = DROP
        self._wrong = {"before": (DROP, broken, self._throttled), "after": (DROP, broken, garbled())}
        self._rate_limiter = rate_limiter
        self._dice = random.Random(seed)
        self._guard = threading.Lock()
        self._speaks = threading.Event()
        self._arrivals: list[tuple[float, str, str]] = []
        self._foreign: set[str] = set()
        self._denials: list[Denial] = []
        self.emulator = AwsEmulator(throttling=rate_limiter)
        self.empty()

    def empty(self) -> None:
        """Forget everything, and answer as AWS does."""
        self.emulator.reset()
        if not self._rate_limiter:
            self.emulator.limits.versions = _NO_LIMIT
        self.emulator.on_request = self._note
        self._speaks.set()
        with self._guard:
            for kept in (self._arrivals, self._denials, self._foreign):
                kept.clear()
            self.share, self.throttled, self._failed = 0.0, 0.0, 0
            self._refused: str | None = None
            self._hangs_up = False

    def _note(self, when: "When", operation: "Operation") -> "Answer | None":
        self._speaks.wait()
        with self._guard:
            if when == "before":
                self._arrivals.append((time.monotonic(), operation.name, operation.secret_id or ""))
                if self._hangs_up:
                    return self._dropped
                if operation.access_key_id == self._refused:
                    return self._unknown_key
                if self._dice.random() < self.throttled:
                    return self._throttled
            # Each request comes by twice, before it is carried out and after it.
            if self._dice.random() >= self.share / 2:
                return None
            self._failed += 1
            return self._dice.choice(self._wrong[when])

    # --- commands

    def seen(self) -> Seen:
        """See `Endpoint.seen`."""
        versions = {str(listed.name): len(listed.versions) for listed in self._secrets()}
        with self._guard:
            counts = Counter(name for _, name, _ in self._arrivals)
            return Seen(counts, versions, list(self._arrivals), self._failed)

    def written(self) -> dict[str, list[Written]]:
        """See `Endpoint.written`."""
        return {
            str(listed.name): [
                Written(id_, str(version.get("secret_string")), float(version["createdate"]), id_ in self._foreign)
                for id_, version in listed.versions.items()
            ]
            for listed in self._secrets()
        }

    def _secrets(self) -> list[Any]:
        from phasesync.emulator.outsider import ACCOUNT, REGION

        with self.emulator.state.lock:
            return self.emulator.state.secrets(ACCOUNT, REGION)

    def outside(self, operation: str, arguments: dict[str, Any]) -> str | None:
        """See `Endpoint.outside`."""
        from phasesync.emulator.errors import AwsError

        try:
            answer = self.emulator.outside.call(operation, **arguments)
        except AwsError as error:
            return error.code
        self._foreign.add(str(answer.get("VersionId")))
        return None

    def throttle(self, share: float) -> None:
        """See `Endpoint.throttle`."""
        self.throttled = share

    def refuse(self, access_key_id: str | None) -> None:
        """See `Endpoint.refuse`."""
        self._refused = access_key_id

    def hang_up(self, on: bool) -> None:
        """See `Endpoint.hang_up`."""
        self._hangs_up = on

    def silence(self, on: bool) -> None:
        """See `Endpoint.silence`."""
        if on:
            self._speaks.clear()
        else:
            self._speaks.set()

    def deny(self, action: str | None) -> None:
        """See `Endpoint.deny`."""
        for denial in self._denials:
            self.emulator.access.allow(denial)
        self._denials = [] if action is None else [self.emulator.deny(action)]


_COMMANDS: Final = frozenset({"written", "outside", "throttle", "refuse", "hang_up", "silence", "deny"})


def _main(rate_limiter: bool, seed: str | None) -> None:
    from phasesync.emulator.http import LoopbackServer, Reply

    aws = _Aws(rate_limiter, seed)

    def control(method: str, _path: str, _headers: Mapping[str, str], body: bytes) -> Reply:
        answer: object = None
        match method:
            case "GET":
                answer = vars(aws.seen())
            case "POST":
                command, arguments = json.loads(body)
                answer = getattr(aws, command)(**arguments) if command in _COMMANDS else None
            case "PUT":
                answer = _plant(aws.emulator, json.loads(body))
            case "PATCH":
                aws.share = json.loads(body)
            case "DELETE":
                aws.empty()
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    print(aws.emulator.url, LoopbackServer(control).url, flush=True)
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
    _main(_QUOTAS in sys.argv[1:], next((text for text in sys.argv[1:] if text.startswith("seed=")), None))
