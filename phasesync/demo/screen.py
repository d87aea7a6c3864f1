"""
The output of the tour: steps with a reason, the commands they stand for, values read back, claims with a proof.

With colours on a terminal, else as plain text. Decides only how things look.
"""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasesync.core.run import Run
from phasesync.demo.account import Stored

PLAIN_WIDTH: Final = 100
"""Columns if there is no terminal to ask."""
WIDE: Final = 92
"""Columns that the whole sync log takes."""
_INDENT: Final = "   "


class ClaimFailedError(Exception):
    """Something that a step says of phasesync did not hold. The text is for the operator and names no other value."""


class Screen:
    """Prints the tour, and counts the claims that held."""

    def __init__(self, console: Console | None = None) -> None:
        """
        Args:
            console: where to print; None means stdout.
        """
        self._console = console or Console(highlight=False)
        if console is None and not self._console.is_terminal:
            self._console = Console(highlight=False, width=PLAIN_WIDTH)
        self._steps = 0
        self.held = 0
        """Claims that held."""

    def title(self, text: str, *lines: str) -> None:
        """Print what the tour is."""
        self._console.print(Text(text, style="bold"))
        for line in lines:
            self._console.print(Text(line))

    def step(self, name: str, why: str) -> None:
        """Begin a step: what it shows, and why phasesync does so."""
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {name}", style="bold cyan"))
        self._line(Text(why, style="dim"))

    def heading(self, name: str) -> None:
        """Begin a part that is no step."""
        self._console.print()
        self._console.print(Text(name, style="bold cyan"))

    def command(self, line: str, note: str = "") -> None:
        """Print a command that does what was just done; never wrapped, so that it can be copied."""
        text = Text(f"{_INDENT}$ {line}")
        if note:
            text.append(f"  # {note}", style="dim")
        self._console.print(text, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line."""
        self._line(Text(line))

    def read_back(self, name: str, stored: Stored) -> None:
        """Print a value as a program reads it at AWS."""
        self._line(Text.assemble(("value read back from AWS: ", "magenta"), f"{name}, version {stored.version_id}"))
        # Not wrapped: a value that is cut in two is no value.
        self._console.print(Text(f"{_INDENT}  {stored.value}", style="magenta"), soft_wrap=True)

    def claim(self, text: str, holds: bool, proof: str = "") -> None:
        """
        Print something that was checked.

        Raises:
            ClaimFailedError: it does not hold.
        """
        if not holds:
            raise ClaimFailedError(text)
        self.held += 1
        line = Text.assemble(("checked: ", "bold green"), text)
        if proof:
            line.append(f" ({proof})", style="dim")
        self._line(line)

    def runs(self, runs: Sequence[Run]) -> None:
        """Print the sync log; on a narrow terminal closer, and without milliseconds, so that no word is cut in two."""
        wide = self._console.width >= WIDE
        titles = ("ENDED AT", "SYNC", "TRIGGER", "OUTCOME", "CHANGES", "CALLS", "VERSIONS", *(["MS"] if wide else []))
        table = Table(box=None, pad_edge=False, collapse_padding=not wide, header_style="bold")
        for title in titles:
            table.add_column(title, no_wrap=True, justify="right" if title in {"CALLS", "VERSIONS", "MS"} else "left")
        for run in runs:
            duration = [str(round((run.ended_at - run.started_at).total_seconds() * 1000))] if wide else []
            table.add_row(
                f"{run.ended_at:%H:%M:%S.%f}"[: -3 if wide else -7],
                run.sync,
                str(run.trigger),
                Text(str(run.outcome), style="green" if run.error is None else "yellow"),
                " ".join(f"{action}:{count}" for action, count in run.counts.items()),
                str(run.aws_calls),
                str(run.versions_written),
                *duration,
            )
        with self._console.capture() as drawn:
            self._console.print(table, width=self._console.width - len(_INDENT))
        for row in drawn.get().splitlines():
            self._line(Text.from_ansi(row.rstrip()))

    def failed(self, text: str, log: Sequence[str]) -> None:
        """Say that a claim did not hold, and what the daemon said last."""
        self._line(Text.assemble(("does not hold: ", "bold red"), text))
        for line in log:
            self._line(Text(f"daemon: {line}", style="dim"))

    def end(self, text: str) -> None:
        """Print the last line."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def _line(self, text: Text, *, more: int = 0) -> None:
        """Print a line, indented even if it wraps, and without blanks at its end."""
        indent = " " * (len(_INDENT) + more)
        for part in text.wrap(self._console, self._console.width - len(indent)):
            part.rstrip()
            self._console.print(Text.assemble(indent, part), soft_wrap=True)
