"""
`phasesync metrics`: what /metrics of the daemon says, on stdout or in a file for node_exporter's textfile collector.

Without a daemon it is what the database says, and that no daemon answers: a file that is not renewed would look as if
all were well. Metrics of the process (`process_…`) are left out: node_exporter has its own of these names, and refuses
to show anything if a name comes twice.
"""

import os
import stat
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from phasesync.cli.daemon_http import ask_daemon
from phasesync.cli.invocation import invocation
from phasesync.cli.output import Output, output_option
from phasesync.cli.replaced_file import replace_file
from phasesync.cli.streams import write_data
from phasesync.errors import InvalidInputError, OperatorError, PhasesyncError, UnhealthyError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from phasesync.settings.model import Settings

WITHIN_S: Final = 6.0
"""The daemon itself waits for its database for up to 2 s."""
_BUSY_S: Final = 1.0
_MOST_BYTES: Final = 16 * 1024 * 1024
_IN_EVERY_ANSWER: Final = b"phasesync_build_info"
_OF_PROCESSES: Final = b"process_"
_UP: Final = (
    "# HELP phasesync_daemon_up Whether the daemon at http.listen answered.\n"
    "# TYPE phasesync_daemon_up gauge\n"
    "phasesync_daemon_up {value}\n"
)


@click.command()
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this file, as a whole or not at all, mode 0644. Default: stdout.",
)
@output_option
def metrics(textfile: Path | None, out: Output) -> None:
    """
    Print the metrics of the daemon at http.listen, in Prometheus's text format. Without a daemon: what the database
    says, and phasesync_daemon_up 0.

    \b
    Examples:
      phasesync metrics
      phasesync metrics --textfile /var/lib/node_exporter/textfile/phasesync.prom
    """
    settings = invocation().settings().settings
    if textfile is not None:
        _check(textfile, out)
    failure: PhasesyncError | None = None
    source = "daemon"
    try:
        text = _of_daemon(settings)
    except UnhealthyError as error:
        out.warn(error.message)
        source = "database"
        text, failure = _of_database(settings)
    _print(text, source, textfile, out)
    if failure is not None:
        raise failure


def _print(text: bytes, source: str, textfile: Path | None, out: Output) -> None:
    if textfile is not None:
        replace_file(textfile, text, mode=0o644)
        document = {"file": str(textfile), "source": source, "bytes": len(text)}
        out.done(f"wrote {textfile}: metrics of the {source}", document)
    elif out.as_json:
        out.document({"source": source, "metrics": _parsed(text)})
    else:
        write_data(text)


def _of_daemon(settings: "Settings") -> bytes:
    """Return the metrics of the daemon. UnhealthyError: there are none."""
    http = settings.http
    ask = partial(ask_daemon, http.host, http.port, "/metrics", within_s=WITHIN_S, most_bytes=_MOST_BYTES)
    response = ask()
    for _ in range(2):
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:  # Many others scrape it at this moment.
            time.sleep(_BUSY_S)
            response = ask()
    if response.status != 200 or _IN_EVERY_ANSWER not in response.body:
        raise UnhealthyError(
            f"what listens at {response.address} has no metrics of phasesync (status {response.status})",
            hint="an older daemon has none: restart it after the upgrade; else correct http.listen in the settings",
        )
    lines = response.body.splitlines(keepends=True)
    kept = [
        line for line in lines if not line.removeprefix(b"# HELP ").removeprefix(b"# TYPE ").startswith(_OF_PROCESSES)
    ]
    return b"".join(kept) + _up(True)


def _of_database(settings: "Settings") -> tuple[bytes, PhasesyncError | None]:
    """Return what the database says, and why it says nothing."""
    from phasesync.adapters.telemetry.database_metrics import DatabaseCollector
    from phasesync.adapters.telemetry.exposition import as_text
    from phasesync.bootstrap import open_application

    figures, key_ids, failure = None, {}, None
    try:
        with open_application(settings) as application:
            figures = application.read_figures(settings.metrics.per_sync)
            key_ids = application.store.keys.ids()
    except PhasesyncError as error:
        failure = error
    collector = DatabaseCollector(
        lambda: figures,
        key_ids=lambda: key_ids,
        ahead_of_aws=lambda: None,
        waits_for_schema=lambda: False,
    )
    return as_text(collector.collect()) + _up(False), failure


def _up(daemon: bool) -> bytes:
    return _UP.format(value=int(daemon)).encode("ascii")


def _parsed(text: bytes) -> list[dict[str, Any]]:
    """Return metrics as JSON shows them."""
    from prometheus_client.parser import text_string_to_metric_families

    def document(family: "Metric") -> dict[str, Any]:
        samples = [
            {"name": sample.name, "labels": dict(sample.labels), "value": sample.value} for sample in family.samples
        ]
        return {"name": family.name, "type": family.type, "help": family.documentation, "samples": samples}

    return [document(family) for family in text_string_to_metric_families(text.decode("utf-8"))]


# --- the file


def _check(file: Path, out: Output) -> None:
    """Refuse a place that cannot be written, before anything is asked."""
    folder = file.parent
    if not folder.is_dir():
        raise InvalidInputError(f"there is no directory {folder}", hint=f"make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OperatorError(
            f"this user may not write to the directory {folder}",
            hint=f"run it as a user who may, or give this one the right: chmod or chown {folder}",
        )
    with suppress(OSError):
        # It is replaced, not written to: what is replaced must not be /dev/null, nor a link that others rely on.
        if not stat.S_ISREG(os.lstat(file).st_mode):
            raise InvalidInputError(
                f"{file} is not a regular file, and would be replaced by one",
                hint="name a file; without --textfile the metrics go to stdout",
            )
    if file.suffix != ".prom":
        out.note(f"node_exporter reads only files whose names end with .prom, and this one is {file.name}")
