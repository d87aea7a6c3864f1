"""
Daemons by name, as a supervisor keeps them: each is started again when it died, and each process has a life of its own.

    replicas = Replicas(installation, ["replica-1", "replica-2"])
    replicas.start("replica-1")
    replicas.kill("replica-1"); replicas.start("replica-1")
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from subprocess import TimeoutExpired
from urllib.parse import urlsplit

from tests.support.daemon import Daemon
from tests.support.installation import Installation


@dataclass(kw_only=True)
class Life:
    """
    One process of a replica.

    Attributes:
        began: when it was started, by the monotonic clock.
        ended: when it was stopped or killed; None while it runs.
        frozen: SIGSTOP has stopped it.
    """

    replica: str
    daemon: Daemon = field(repr=False)
    began: float
    ended: float | None = None
    frozen: bool = False
    _address: str | None = None

    @property
    def address(self) -> str | None:
        """HOST:PORT of its health and metrics; None until its log names it."""
        if self._address is None:
            with self.daemon.log.open() as log:
                for line in islice(log, 5):  # Its whole log becomes long.
                    if line.endswith("\n") and (said := json.loads(line)).get("event") == "phasesync starts":
                        self._address = said["listening"]
        return self._address


class Replicas:
    """The replicas of one installation."""

    def __init__(self, installation: Installation, names: Sequence[str], *, preloaded: bool = False) -> None:
        """
        Args:
            installation: whose daemons they are.
            names: of the replicas; none is started yet.
            preloaded: they begin after their imports, which is quick; their memory is shared then, and says less.
        """
        self.names = tuple(names)
        self.lives: list[Life] = []
        self.problems: list[str] = []
        """What a replica did that it must not: end without being asked, end with an error, or take too long to end."""
        self._installation = installation
        self._preloaded = preloaded
        self._guard = threading.Lock()

    def start(self, name: str, *, ready: bool = False) -> Life:
        """Start a replica; with `ready` it works or stands by when this returns."""
        url = self._installation.database_url
        if urlsplit(url).scheme.startswith("postgresql"):
            # So that PostgreSQL can say whose connections there are.
            url += f"{'&' if '?' in url else '?'}application_name={name}"
        daemon = self._installation.start_daemon(ready=ready, installed=not self._preloaded, PHASESYNC_DATABASE_URL=url)
        life = Life(replica=name, daemon=daemon, began=time.monotonic())
        with self._guard:
            self.lives.append(life)
        return life

    def current(self, name: str) -> Life | None:
        """Return the process of a replica that runs, or is frozen; None if there is none."""
        with self._guard:
            return next((life for life in reversed(self.lives) if life.replica == name and life.ended is None), None)

    def running(self) -> list[Life]:
        """Return every process that runs or is frozen."""
        return [life for name in self.names if (life := self.current(name)) is not None]

    def look(self) -> None:
        """Note what ended by itself."""
        for life in self.running():
            if life.daemon.ended and life.ended is None:
                life.ended = time.monotonic()
                code = life.daemon.process.poll()
                self.problems.append(f"{life.replica} (pid {life.daemon.pid}) ended by itself with exit code {code}")

    def kill(self, name: str) -> None:
        """kill -9."""
        if life := self.current(name):
            life.ended = time.monotonic()
            life.daemon.kill()

    def stop(self, name: str) -> float:
        """SIGTERM; return how many seconds it took. What is not as it must be is a problem."""
        life = self.current(name)
        if life is None:
            return 0.0
        life.ended = began = time.monotonic()
        try:
            code = life.daemon.stop()
        except (TimeoutExpired, AssertionError):
            self.problems.append(f"{name} (pid {life.daemon.pid}) did not end within 10 s of SIGTERM")
            life.daemon.kill()
        else:
            if code != 0:
                self.problems.append(f"{name} (pid {life.daemon.pid}) ended with exit code {code} after SIGTERM")
        return time.monotonic() - began

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        if life := self.current(name):
            life.daemon.freeze()
            life.frozen = True

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        if life := self.current(name):
            life.daemon.thaw()
            life.frozen = False
