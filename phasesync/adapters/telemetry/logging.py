"""
What a log line says of an exception: its class and where it was, never its text and never a local variable.

botocore and database drivers repeat arguments in the texts of their exceptions, secret values included, and our own
texts may name secret keys. So `str(exc)` is not even computed here.

Sets logging up: one line an event on stderr, JSON or for people, from phasesync and from the libraries below it.

Nothing here may let a value out. Texts and locals of exceptions are not printed (`failures.py`); arguments of other
libraries' log lines are masked; their loggers never go below WARNING, since botocore prints requests at DEBUG; and
Python's own last resorts (uncaught exceptions, failures of logging itself) are led here as well.

A daemon's lines go through a queue (`queued.py`), so that a stream that nobody reads stops no work.
"""

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

from phasesync.adapters.telemetry.queued import QueuedWriter

Described = list[dict[str, object]]
"""One item an exception of the chain, the newest first: `class` and `frames`."""

_MOST_FRAMES = 30
_MOST_EXCEPTIONS = 10


def describe(error: BaseException) -> Described:
    """Return class and frames of an exception, of its causes and of the members of its groups."""
    described: Described = []
    for each in _chain(error):
        described.append({"class": class_name(each), "frames": _frames(each.__traceback__)})
        if len(described) == _MOST_EXCEPTIONS:
            break
    return described


def class_name(error: BaseException) -> str:
    """Return the class of an exception with its module, without the module for Python's own."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def as_text(described: Described) -> str:
    """Return a description as lines for people."""
    lines = []
    for item in described:
        lines.append(str(item["class"]))
        frames = item["frames"]
        lines.extend(f"    {frame}" for frame in (frames if isinstance(frames, list) else []))
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        waiting.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))


def _frames(trace: TracebackType | None) -> list[str]:
    """Return `file:line function` from the outermost to the innermost; source lines are left out."""
    frames = [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}" for frame, line in traceback.walk_tb(trace)
    ]
    if len(frames) > _MOST_FRAMES:
        half = _MOST_FRAMES // 2
        frames[half:-half] = [f"{len(frames) - 2 * half} more"]
    return frames


OURS: Final = "phasesync"
"""Loggers of this name and below are ours; all others are foreign."""

_TALKATIVE: Final = ("boto3", "botocore", "s3transfer", "urllib3", "sqlalchemy", "alembic", "psycopg")
_FLOORS: Final = {
    **dict.fromkeys(_TALKATIVE, logging.WARNING),
    # A round that is still under way when the next one is due is a WARNING there, and nothing unusual here.
    "apscheduler": logging.ERROR,
}

FLUSH_WITHIN_S: Final = 0.5
"""How long the end of a process waits for a queued log; the end as a whole has its own deadline."""

_LOG_METHODS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(
    *,
    level: str,
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
    queued: bool = False,
) -> None:
    """
    Send every log line of this process to one stream; what was set up before is replaced.

    Args:
        level: debug, info, warning or error, for our own lines; foreign loggers stay at WARNING or above.
        format: json, console, or auto: console on a terminal and json elsewhere.
        stream: None = stderr.
        queued: lines are written by a thread of its own, and lost where the stream does not take them: for a daemon,
            whose work must not wait for whoever reads its log. The stream has to have a file descriptor.
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
        # A cached logger would keep a former set-up.
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
    _clamp_foreign()
    set_level(level)
    _lead_last_resorts_here()


def set_level(level: str) -> None:
    """Change the least important level of our own lines; may be called at any time."""
    logging.getLogger(OURS).setLevel(_LOG_METHODS[level])


def get_logger(name: str = OURS) -> BoundLogger:
    """Return a logger; its name begins with `phasesync`."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """A line that cannot be written is lost; the daemon goes on, and nothing of the line goes elsewhere."""


class _QueuedHandler(logging.Handler):
    """Formats a line where it is logged, so that nothing else of the event is kept, and has it written later."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = QueuedWriter(descriptor, on_lost=_tell_lost)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- a line that cannot be formatted is lost, and nothing of it goes elsewhere
            return
        self.writer.put(f"{line}\n")

    def flush(self) -> None:
        """Write what waits, within a deadline; `logging.shutdown` calls this at the end of the process."""
        self.writer.flush(FLUSH_WITHIN_S)


def _tell_lost(count: int) -> None:
    get_logger().warning("log lines lost: nobody took them", count=count)


def flush_log() -> None:
    """Write what waits in a daemon's log, within a deadline; for the end of the process."""
    for handler in logging.root.handlers:
        handler.flush()


def lines_lost() -> int:
    """Return how many lines of a daemon's log were lost because nobody took them."""
    return sum(handler.writer.lost for handler in logging.root.handlers if isinstance(handler, _QueuedHandler))


class _Masked:
    """Stands for an argument that is not shown."""

    def __repr__(self) -> str:
        return "…"


def _mask_foreign(record: logging.LogRecord) -> bool:
    """
    Keep only numbers among the arguments of other libraries' log lines, and nothing where one is not a template.

    Their authors do not know what is secret here: a URL, a repr of a connection, the text of an exception.
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
    """Turn an exception into class and frames."""
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


def _clamp_foreign() -> None:
    """Keep foreign loggers at their floor, those below them too, whatever was set before."""
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(floor)
    for name in list(logging.root.manager.loggerDict):
        top = name.partition(".")[0]
        logger = logging.getLogger(name)
        if top == OURS:
            continue
        logger.handlers.clear()
        logger.propagate = True
        if name != top and logger.level:
            logger.setLevel(max(logger.level, _FLOORS.get(top, logging.WARNING)))


def _lead_last_resorts_here() -> None:
    """Lead uncaught exceptions and Python's warnings into the log: by default they go to stderr with their texts."""
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

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable
    show: Callable[..., None] = warned
    warnings.showwarning = show
