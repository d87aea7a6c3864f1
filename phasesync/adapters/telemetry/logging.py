"""
Sets up logging: one line per event on stderr, as JSON or for people, from phasesync and from the libraries below it.

No line may contain a secret value. An exception is logged as its class and its position, never with its text or local
variables: botocore and database drivers repeat arguments in their texts, and our own texts may name secret keys. So
`str(exc)` is not even computed here. Arguments of other libraries' log lines are masked, and their loggers never go
below WARNING, since botocore prints requests at DEBUG. Uncaught exceptions and Python's warnings are logged here, too.

The lines of a daemon go through a queue (`queued_writer.py`), so that an unread stream blocks no work.
"""

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

from phasesync.adapters.telemetry.queued_writer import QueuedWriter

# --- exceptions

Description = list[dict[str, object]]
"""One entry per exception of the chain, newest first: `class` and `frames`."""

_MAX_FRAMES = 30
_MAX_EXCEPTIONS = 10


def describe(error: BaseException) -> Description:
    """Return class and frames of an exception, of its causes and of the members of its groups."""
    description: Description = []
    for exception in _chain(error):
        description.append({"class": class_name(exception), "frames": _frames(exception.__traceback__)})
        if len(description) == _MAX_EXCEPTIONS:
            break
    return description


def class_name(error: BaseException) -> str:
    """Return the class of an exception with its module, except for Python's built-in ones."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def as_text(description: Description) -> str:
    """Return a description as lines for people."""
    lines = []
    for entry in description:
        lines.append(str(entry["class"]))
        frames = entry["frames"]
        lines.extend(f"    {frame}" for frame in (frames if isinstance(frames, list) else []))
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    visited: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        exception = queue.pop(0)
        if exception is None or id(exception) in visited:
            continue
        visited.add(id(exception))
        yield exception
        if isinstance(exception, BaseExceptionGroup):
            queue.extend(exception.exceptions)
        context = None if exception.__suppress_context__ else exception.__context__
        queue.append(exception.__cause__ or context)


def _frames(trace: TracebackType | None) -> list[str]:
    """Return `file:line function` from the outermost to the innermost; source lines are left out."""
    frames = [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}" for frame, line in traceback.walk_tb(trace)
    ]
    if len(frames) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        frames[half:-half] = [f"{len(frames) - 2 * half} more"]
    return frames


# --- set-up

OURS: Final = "phasesync"
"""Loggers of this name and below are ours; all others are foreign."""

_LIBRARIES: Final = ("boto3", "botocore", "s3transfer", "urllib3", "sqlalchemy", "alembic", "psycopg")
_MINIMUM_LEVELS: Final = {
    **dict.fromkeys(_LIBRARIES, logging.WARNING),
    # It warns if a chore is still under way when the next one is due, which is not unusual here.
    "apscheduler": logging.ERROR,
    # What fails there is an event of ours; its own lines repeat texts of the database driver.
    "procrastinate": logging.CRITICAL,
    "psycopg.pool": logging.ERROR,
    # `tracing.py` tells once that a collector takes no spans.
    "opentelemetry.exporter": logging.CRITICAL,
}

FLUSH_WITHIN_S: Final = 0.5
"""How long a process waits for a queued log at its exit; the exit as a whole has its own deadline."""

_LOG_METHODS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(
    *,
    level: str,
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
    queued: bool = False,
) -> None:
    """
    Send every log line of this process to one stream; this replaces any former set-up.

    Args:
        level: debug, info, warning or error, for our own loggers; foreign loggers stay at WARNING or above.
        format: json, console, or auto: console on a terminal and json elsewhere.
        stream: None means stderr.
        queued: a separate thread writes the lines, and they are lost if the stream does not accept them: for a daemon,
            which must not wait for the reader of its log. The stream must have a file descriptor.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    for_people = format == "console" or (format == "auto" and terminal)
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=BoundLogger,
        # A cached logger would keep its former set-up.
        cache_logger_on_first_use=False,
    )
    handler = _QueuedHandler(stream.fileno()) if queued else _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_texts,
                *(_for_people(colors=terminal and not os.environ.get("NO_COLOR")) if for_people else _for_machines()),
            ],
        )
    )
    handler.addFilter(_mask_foreign)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    # Otherwise a failure of logging prints the message and its arguments.
    logging.raiseExceptions = False
    _limit_foreign_loggers()
    set_level(level)
    _log_uncaught()


def set_level(level: str) -> None:
    """Change the level of our own loggers; may be called at any time."""
    logging.getLogger(OURS).setLevel(_LOG_METHODS[level])


def get_logger(name: str = OURS) -> BoundLogger:
    """Return a logger; its name begins with `phasesync`."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Lose a line that cannot be written: the daemon goes on, and no part of the line goes elsewhere."""


class _QueuedHandler(logging.Handler):
    """Formats a line when it is logged, so that nothing else of the event is kept, and queues it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = QueuedWriter(descriptor, on_lost=_log_lost)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- a line that cannot be formatted is lost, and no part of it goes elsewhere
            return
        self.writer.put(f"{line}\n")

    def flush(self) -> None:
        """Write the queue, within a deadline; `logging.shutdown` calls this at the exit of the process."""
        self.writer.flush(FLUSH_WITHIN_S)


def _log_lost(count: int) -> None:
    get_logger().warning("log lines lost: nobody took them", count=count)


def flush_log() -> None:
    """Write the queue of a daemon's log, within a deadline; for the exit of the process."""
    for handler in logging.root.handlers:
        handler.flush()


def lines_lost() -> int:
    """Return how many lines of a daemon's log were lost because the stream did not accept them."""
    return sum(handler.writer.lost for handler in logging.root.handlers if isinstance(handler, _QueuedHandler))


class _Masked:
    """Takes the place of an argument that is not shown."""

    def __repr__(self) -> str:
        return "…"


def _mask_foreign(record: logging.LogRecord) -> bool:
    """
    Mask all arguments of other libraries' log lines except numbers, and the text of an exception that is logged.

    Other libraries do not know what is secret here: a URL, a repr of a connection, the text of an exception.
    """
    if record.name == OURS or record.name.startswith(f"{OURS}."):
        return True
    if isinstance(record.msg, BaseException):
        record.msg = class_name(record.msg)
    if isinstance(record.args, Mapping):
        record.args = {name: _masked(value) for name, value in record.args.items()}
    elif record.args:
        record.args = tuple(_masked(value) for value in record.args)
    record.exc_text = None
    record.stack_info = None
    return True


def _masked(value: object) -> object:
    return value if isinstance(value, (int, float)) else _Masked()


def _without_texts(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Replace an exception with its class and frames."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if isinstance(info, BaseException):
        error: BaseException | None = info
    elif isinstance(info, tuple):
        error = info[1]
    else:
        error = sys.exc_info()[1] if info else None
    if error is not None:
        event["exception"] = describe(error)
    return event


def _for_machines() -> list[Processor]:
    def ordered(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        first = {key: event[key] for key in ("timestamp", "level", "logger", "event") if key in event}
        return {**first, **event}

    return [ordered, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _for_people(*, colors: bool) -> list[Processor]:
    def as_lines(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        if "exception" in event:
            event["exception"] = as_text(event["exception"])
        return event

    return [
        as_lines,
        structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        ),
    ]


def _limit_foreign_loggers() -> None:
    """Set foreign loggers, and those below them, to their minimum level or above, whatever was set before."""
    for name, floor in _MINIMUM_LEVELS.items():
        logging.getLogger(name).setLevel(floor)
    for name in list(logging.root.manager.loggerDict):
        top = name.partition(".")[0]
        logger = logging.getLogger(name)
        if top == OURS:
            continue
        logger.handlers.clear()
        logger.propagate = True
        if name != top and logger.level:
            logger.setLevel(max(logger.level, _MINIMUM_LEVELS.get(top, logging.WARNING)))


def _log_uncaught() -> None:
    """Log uncaught exceptions and Python's warnings: by default they go to stderr with their texts."""
    log = get_logger()

    def uncaught(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.error("uncaught exception", exc_info=error)

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            log.error("uncaught exception", thread=args.thread.name if args.thread else None, exc_info=args.exc_value)

    def unraisable(args: Any) -> None:
        log.error("exception that nothing could catch", exc_info=args.exc_value)

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        log.warning("python warning", category=category.__name__, at=f"{filename}:{lineno}")

    sys.excepthook = _harmless(uncaught)
    threading.excepthook = _harmless(uncaught_in_thread)
    sys.unraisablehook = _harmless(unraisable)
    show: Callable[..., None] = warned
    warnings.showwarning = show


def _harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Return a hook that raises nothing: Python would print, in a form of its own, what it was called for."""

    @wraps(hook)
    def called(*arguments: Any) -> None:
        # Without memory, for example, the line is lost.
        with suppress(Exception):
            hook(*arguments)

    return called
