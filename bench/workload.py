"""
What people and others do while daemons work: syncs to look after, edits, leases, and changes at AWS by another hand.

Everything that is done comes from a seed. What was committed is kept here, apart from the store, to be compared with it
in the end.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from bench.endpoint import Endpoint
from phasesync.bootstrap import Application
from phasesync.core.credential import CredentialDraft, CredentialType
from phasesync.core.dynamic import DynamicConfig, DynamicDraft
from phasesync.core.lease_users import DEFAULT_TEMPLATE
from phasesync.core.model import SecretValue, SecretWrite
from phasesync.core.sync import Layout, OnDrift, SyncConfig, SyncDraft
from phasesync.errors import Disposition, PhasesyncError
from tests.support.installation import ACCESS_KEY_ID, REGION, Installation

SECOND_KEY_ID: Final = "AKIAPHASESYNCDAEMON2"
"""The key that AWS refuses for a while; the syncs that use it fail then."""
CREDENTIALS: Final = {"aws": ACCESS_KEY_ID, "aws-second": SECOND_KEY_ID}
APP: Final = "shop"
GUARDED: Final = "guarded"
"""The sync whose environment loses most of its keys now and then."""
MISTAKEN: Final = "mistaken"
"""The sync whose environment has a reference that leads nowhere now and then."""
CONTESTED: Final = "contested"
"""The sync whose object somebody else keeps changing back."""
CONTESTED_EVERY_S: Final = 40.0
CONTESTED_TIMES: Final = 5
DYNAMIC: Final = "ci"
LEASE_TTL: Final = timedelta(seconds=60)
KEYS: Final = 6
EDITS_A_SYNC: Final = 22
"""Edits of one environment at most: an object has 30 writes, and one more each 24 minutes; drift takes some of them."""
OUTSIDE_A_SYNC: Final = 2
"""Changes of one object by others at most: at more than 3 a day the object is contested."""
_RETRY_S: Final = 0.5


@dataclass(kw_only=True)
class Watched:
    """
    One sync, with an environment of its own.

    Attributes:
        content: what its environment holds.
        history: when each content was committed (seconds since 1970), oldest first.
        kind: json, per-key, hold (drift is held), second (uses the second credential).
        outside: how often others changed it.
    """

    name: str
    kind: str
    content: dict[str, str] = field(default_factory=dict, repr=False)
    history: list[tuple[float, dict[str, str]]] = field(default_factory=list, repr=False)
    outside: int = 0

    @property
    def objects(self) -> dict[str, dict[str, str]]:
        """Remote name -> what it has to hold."""
        return self.objects_of(self.content)

    def objects_of(self, content: dict[str, str]) -> dict[str, dict[str, str]]:
        """Remote name -> what it has to hold by a content."""
        if self.kind == "per-key":
            return {f"{APP}/{self.name}/{key}": {key: text} for key, text in content.items()}
        return {f"{APP}/{self.name}": content}

    def read(self, text: str, remote_name: str) -> dict[str, str]:
        """Return what a version of an object says."""
        if self.kind == "per-key":
            return {remote_name.rpartition("/")[2]: text}
        found: dict[str, str] = json.loads(text)
        return found


class Workload:
    """The syncs of one installation, and what is done to them."""

    def __init__(self, installation: Installation, endpoint: Endpoint, seed: int) -> None:
        self.syncs: dict[str, Watched] = {}
        self.edits = 0
        """Edits that were committed."""
        self.by_command = 0
        """Of them, those that a process of the command line made."""
        self.retried = 0
        """Attempts that the database did not take."""
        self.leases = {"issued": 0, "refused": 0, "killed": 0}
        self.outside: dict[str, int] = {}
        """Operation -> how often others carried it out."""
        self._installation = installation
        self._endpoint = endpoint
        self._seed = seed
        self._number = 0
        self._guard = threading.Lock()

    # --- the scene

    def furnish(self, count: int, *, leases: bool = True) -> None:
        """Add credentials, `count` syncs of every kind, and a dynamic secret."""
        kinds = ["json"] * 12 + ["per-key"] * 2 + ["hold"] * 2 + ["second"] * 2
        with self._installation.application() as application:
            application.store.apps.add_app(APP)
            for name, key_id in CREDENTIALS.items():
                secret = SecretValue("not-a-real-secret-access-key")
                draft = CredentialDraft(
                    type=CredentialType.ACCESS_KEY, region=REGION, access_key_id=key_id, secret_access_key=secret
                )
                application.store.credentials.add(name, draft)
            for number in range(count):
                self.add(application, f"sync-{number:03}", kinds[number % len(kinds)])
            for name in (GUARDED, MISTAKEN, CONTESTED):
                self.add(application, name, "json")
            if leases:
                self._add_dynamic(application)

    def add(self, application: Application, name: str, kind: str) -> Watched:
        """Add a sync with an environment of its name."""
        sync = Watched(name=name, kind=kind)
        application.store.apps.add_environment(APP, name)
        self.commit(application, sync, {f"KEY_{number}": self._value() for number in range(KEYS)})
        named: dict[str, Any] = {"remote_name": f"{APP}/{name}"}
        if kind == "per-key":
            named = {"layout": Layout.PER_KEY, "name_template": f"{APP}/{name}/{{key}}"}
        config = SyncConfig(
            **named,
            on_drift=OnDrift.HOLD if kind == "hold" else OnDrift.ENFORCE,
            interval=timedelta(seconds=60),
            tags={"team": "shop"},
        )
        draft = SyncDraft(
            name=name,
            app=APP,
            environment=name,
            path="/",
            credential="aws-second" if kind == "second" else "aws",
            destination_kind="aws-secrets-manager",
            region=REGION,
            config=config,
            account=None,
            adopt=None,
        )
        application.configuration.add(draft, verify=False)
        self.syncs[name] = sync
        return sync

    def _add_dynamic(self, application: Application) -> None:
        statement = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        config = DynamicConfig(
            user_template=DEFAULT_TEMPLATE,
            inline_policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
            default_ttl=LEASE_TTL,
            max_ttl=timedelta(hours=1),
            max_leases=500,
        )
        application.store.apps.add_environment(APP, "leases")
        draft = DynamicDraft(
            name=DYNAMIC,
            app=APP,
            environment="leases",
            path="/",
            credential="aws",
            issuer="aws-iam-user",
            config=config,
        )
        application.dynamic_configuration.add(draft)

    # --- edits

    def commit(self, application: Application, sync: Watched, values: dict[str, str | None]) -> float:
        """Commit one revision; return when (seconds since 1970). PhasesyncError: it is not known to be committed."""
        application.store.secrets.edit(
            APP,
            sync.name,
            actor="bench",
            origin="set",
            writes=[SecretWrite(path="/", key=key, value=SecretValue(text)) for key, text in values.items() if text],
            unsets=[("/", key) for key, text in values.items() if text is None],
        )
        at = time.time()
        merged = {**sync.content, **values}
        sync.content = {key: text for key, text in merged.items() if text is not None}
        sync.history.append((at, sync.content))
        self.edits += 1
        return at

    def insist(self, application: Application, sync: Watched, values: dict[str, str | None]) -> float:
        """Commit, and try again until the database takes it, as a person would. Saying the same again is one edit."""
        while True:
            try:
                return self.commit(application, sync, values)
            except PhasesyncError as error:
                if error.disposition is Disposition.HALT:
                    raise
                self.retried += 1
                time.sleep(_RETRY_S)

    def edit_steadily(self, ended: threading.Event, rate: float, *, commands: bool = True) -> None:
        """Edit at a steady rate, in a thread of its own, until the event comes: often one, at times several at once."""
        dice = random.Random(f"{self._seed}-edits")
        chosen = [sync for sync in self.syncs.values() if sync.name.startswith("sync-")]
        next_at, next_command = time.monotonic(), time.monotonic() + 15
        with self._installation.application() as application:
            while not ended.wait(max(0.0, next_at - time.monotonic())):
                next_at = max(next_at, time.monotonic() - 5.0) + dice.expovariate(rate)
                sync = dice.choice(chosen)
                if len(sync.history) > EDITS_A_SYNC:
                    continue
                if commands and time.monotonic() > next_command:
                    next_command = time.monotonic() + 15
                    self._edit_by_command(sync, f"KEY_{dice.randrange(KEYS)}")
                    continue
                for _ in range(dice.choice((1, 1, 1, 1, 2, 4))):
                    keys = dice.sample(range(KEYS + 2), dice.choice((1, 1, 2)))
                    self.insist(application, sync, {f"KEY_{key}": self._value() for key in keys})

    def _edit_by_command(self, sync: Watched, key: str) -> None:
        value = self._value()
        while True:
            done = self._installation.run("secrets", "set", f"{APP}/{sync.name}", key, "-", stdin=value)
            if done.exit_code == 0:
                break
            self.retried += 1
            time.sleep(_RETRY_S)
        sync.content = {**sync.content, key: value}
        sync.history.append((time.time(), sync.content))
        self.edits += 1
        self.by_command += 1

    def _value(self) -> str:
        """Return a value that no other edit has."""
        with self._guard:
            self._number += 1
            return f"value {self._number} of seed {self._seed}, as long as a password"

    # --- others at AWS

    def change_outside(self, ended: threading.Event, every_s: float, *, until: float) -> None:
        """Change objects at AWS by another hand, in a thread of its own, until the event or a monotonic time comes."""
        dice = random.Random(f"{self._seed}-outside")
        chosen = [sync for sync in self.syncs.values() if sync.name.startswith("sync-")]
        next_contest = time.monotonic() + CONTESTED_EVERY_S
        while not ended.wait(dice.uniform(0.5, 1.5) * every_s) and time.monotonic() < until:
            if time.monotonic() > next_contest and self.syncs[CONTESTED].outside < CONTESTED_TIMES:
                next_contest = time.monotonic() + CONTESTED_EVERY_S
                self.syncs[CONTESTED].outside += self.change(f"{APP}/{CONTESTED}")
            sync = dice.choice(chosen)
            if sync.outside < OUTSIDE_A_SYNC:
                sync.outside += 1
                operation = dice.choice(("PutSecretValue", "PutSecretValue", "TagResource", "DeleteSecret"))
                self.change(dice.choice(sorted(sync.objects)), operation)

    def change(self, remote_name: str, operation: str = "PutSecretValue") -> bool:
        """Change one object at AWS by another hand; return whether AWS took it."""
        arguments: dict[str, Any] = {
            "PutSecretValue": {"SecretString": json.dumps({"THEIRS": self._value()})},
            "TagResource": {"Tags": [{"Key": "team", "Value": "theirs"}]},
            "DeleteSecret": {"RecoveryWindowInDays": 30},
        }[operation]
        taken = self._endpoint.outside(operation, SecretId=remote_name, **arguments) is None
        self.outside[operation] = self.outside.get(operation, 0) + taken
        return taken

    # --- leases

    def issue_leases(self, ended: threading.Event, every_s: float, *, until: float) -> None:
        """
        Issue leases by commands, in a thread of its own, until the event or a monotonic time comes.

        Some of the commands are killed.
        """
        dice = random.Random(f"{self._seed}-leases")
        while not ended.wait(dice.uniform(0.5, 1.5) * every_s) and time.monotonic() < until:
            kill_after = dice.uniform(0.5, 1.5) if dice.random() < 0.15 else None
            process = self._installation.popen("leases", "issue", DYNAMIC, "--ttl", "60s", "--no-probe", "-o", "json")
            if kill_after is not None and not ended.wait(kill_after) and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                self.leases["killed"] += 1
            process.communicate()
            if process.returncode >= 0:
                self.leases["issued" if process.returncode == 0 else "refused"] += 1


def in_threads(*works: Callable[[threading.Event], None]) -> "Threads":
    """Return a block in which each of these works runs in a thread of its own, until the block ends."""
    return Threads(works)


class Threads:
    """Works in threads of their own; what one of them raises is raised at the end of the block."""

    def __init__(self, works: tuple[Callable[[threading.Event], None], ...]) -> None:
        self.ended = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        try:
            work(self.ended)
        except BaseException as error:  # raised again in the main thread
            self._errors.append(error)

    @property
    def failed(self) -> bool:
        """Whether one of them has raised something."""
        return bool(self._errors)

    def __enter__(self) -> "Threads":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the works, and wait for them. Raises what one of them raised."""
        self.ended.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors.pop(0)
