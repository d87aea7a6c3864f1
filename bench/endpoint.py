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
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

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

    def freeze(self) -> None:
        """Stop the process: connections are accepted, and nothing answers. `thaw` ends it."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process go on."""
        self._process.send_signal(signal.SIGCONT)

    def _do(self, command: str, **arguments: object) -> Any:
        request = Request(self._control, data=json.dumps([command, arguments]).encode(), method="POST")
        with _open(request, timeout=120) as answer:
            return json.load(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.thaw()
        self._process.communicate()  # ends with its stdin


# --- the process itself


def _main(rate_limiter: bool, seed: str | None) -> None:
    # Here, so that a benchmark itself does not pay for moto.
    from phasesync.emulator import AwsEmulator, Operation
    from phasesync.emulator.access import Denial
    from phasesync.emulator.errors import AwsError
    from phasesync.emulator.faults import DROP, Answer, When, garbled
    from phasesync.emulator.http import LoopbackServer, Reply
    from phasesync.emulator.outsider import ACCOUNT, REGION

    aws = AwsEmulator(throttling=rate_limiter)
    guard = threading.Lock()
    dice = random.Random(seed)
    arrivals: list[tuple[float, str, str]] = []
    faults: dict[str, Any] = {}
    denials: list[Denial] = []
    foreign: set[str] = set()
    broken = Answer("InternalServiceError", status=500)
    throttled = Answer("ThrottlingException", "Rate exceeded")
    unknown_key = Answer("UnrecognizedClientException", "The security token included in the request is invalid.")
    wrong: dict[When, tuple[Answer, ...]] = {"before": (DROP, broken, throttled), "after": (DROP, broken, garbled())}

    def note(when: When, operation: Operation) -> Answer | None:
        with guard:
            if when == "before":
                arrivals.append((time.monotonic(), operation.name, operation.secret_id or ""))
                if faults["hang_up"]:
                    return DROP
                if operation.access_key_id == faults["refused"]:
                    return unknown_key
                if dice.random() < faults["throttled"]:
                    return throttled
            # Each request comes by twice, before it is carried out and after it.
            if dice.random() >= faults["share"] / 2:
                return None
            faults["failed"] += 1
            return dice.choice(wrong[when])

    def empty() -> None:
        aws.reset()
        if not rate_limiter:
            aws.limits.versions = _NO_LIMIT
        aws.on_request = note
        with guard:
            arrivals.clear()
            denials.clear()
            foreign.clear()
            faults.update(share=0.0, failed=0, throttled=0.0, refused=None, hang_up=False)

    def seen() -> Seen:
        with aws.state.lock:
            versions = {str(listed.name): len(listed.versions) for listed in aws.state.secrets(ACCOUNT, REGION)}
        with guard:
            counts = Counter(name for _, name, _ in arrivals)
            return Seen(counts, versions, list(arrivals), int(faults["failed"]))

    def outside(operation: str, arguments: dict[str, Any]) -> str | None:
        try:
            answer = aws.outside.call(operation, **arguments)
        except AwsError as error:
            return error.code
        foreign.add(str(answer.get("VersionId")))
        return None

    def deny(action: str | None) -> None:
        for denial in denials:
            aws.access.allow(denial)
        denials[:] = [] if action is None else [aws.deny(action)]

    def written() -> dict[str, list[tuple[str, str, float, bool]]]:
        with aws.state.lock:
            return {
                str(listed.name): [
                    (id_, str(version.get("secret_string")), float(version["createdate"]), id_ in foreign)
                    for id_, version in listed.versions.items()
                ]
                for listed in aws.state.secrets(ACCOUNT, REGION)
            }

    commands: dict[str, Callable[..., object]] = {
        "outside": outside,
        "throttle": lambda share: faults.update(throttled=share),
        "refuse": lambda access_key_id: faults.update(refused=access_key_id),
        "hang_up": lambda on: faults.update(hang_up=on),
        "deny": deny,
        "written": written,
    }

    def control(method: str, _path: str, _headers: Mapping[str, str], body: bytes) -> Reply:
        answer: object = None
        match method:
            case "GET":
                answer = vars(seen())
            case "POST":
                command, arguments = json.loads(body)
                answer = commands[command](**arguments)
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
    _main(_QUOTAS in sys.argv[1:], next((text for text in sys.argv[1:] if text.startswith("seed=")), None))
