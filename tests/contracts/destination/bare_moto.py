"""moto as it is, behind a server on loopback that can lose answers; nothing of AWS's strictness is added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from phasesync.emulator.http import LoopbackServer, MotoApp, Reply
from phasesync.emulator.request import read_operation


class BareMoto:
    """The server."""

    def __init__(self) -> None:
        self._moto = MotoApp()
        self._lost: Counter[str] = Counter()
        self._server = LoopbackServer(self._respond)
        self.url = self._server.url

    def stop(self) -> None:
        """Serve no more."""
        self._server.close()

    def reset(self) -> None:
        """Forget everything."""
        from moto.moto_api._internal.models import moto_api_backend

        moto_api_backend.reset()
        self._lost.clear()

    def lose_answers(self, operation: str, times: int) -> None:
        """Carry out the next requests for an operation, and end the connection in place of an answer."""
        self._lost[operation] = times

    def _respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        status, answered, content = self._moto.answer(method, path, headers, body)
        name = read_operation(headers, path, body).name
        if self._lost[name] > 0:
            self._lost[name] -= 1
            return None
        return Reply(status, content, dict(answered))
