"""Log lines say where something went wrong and never what was in its hands."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings

import pytest

from phasesync.adapters.telemetry.logging import configure_logging, describe, get_logger, set_level
from phasesync.demo.canary import CANARY_KEY, CANARY_VALUE, assert_absent
from phasesync.errors import UnresolvedReferenceError


class Unwritable(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("no room")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fail_with_canary() -> None:
    password = CANARY_VALUE
    try:
        raise ValueError(f"Invalid length for parameter SecretString, value: {password}")
    except ValueError as error:
        raise ExceptionGroup(
            CANARY_VALUE, [UnresolvedReferenceError(f"no {CANARY_KEY}"), KeyError(password)]
        ) from error


def foreign(level: int, name: str, *, exception: bool) -> None:
    logger = logging.getLogger(name)
    try:
        fail_with_canary()
    except ExceptionGroup as error:
        logger.log(level, "request %s with %r failed: %s", CANARY_VALUE, {"v": CANARY_VALUE}, error, exc_info=exception)
        logger.log(level, "%(value)s", {"value": CANARY_VALUE}, exc_info=exception)
        logger.log(level, error)


def every_path() -> None:
    """Whatever may happen to a value in a daemon."""
    log = get_logger("phasesync.test")
    try:
        fail_with_canary()
    except ExceptionGroup as error:
        error.add_note(CANARY_VALUE)
        log.exception("with exception")
        log.error("with exc_info", exc_info=error)
        log.error("with stack", stack_info=True)
        logging.getLogger("phasesync.plain").exception("plain logging of ours")
    for name in ("botocore.endpoint", "boto3", "urllib3.connectionpool", "sqlalchemy.engine.Engine", "somebody.else"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            foreign(level, name, exception=level >= logging.WARNING)
    thread = threading.Thread(target=fail_with_canary)
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        configure = sys.modules["phasesync.adapters.telemetry.logging"]
        configure._log_uncaught()  # catch_warnings has put Python's back
        warnings.warn(CANARY_VALUE, stacklevel=1)
        warnings.showwarning = shown
    try:
        fail_with_canary()
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_value_and_no_key_name_leaves_by_any_path(level, format, stream, capfd) -> None:
    configure_logging(level=level, format=format, stream=stream)

    every_path()

    written = (stream.getvalue() + "".join(capfd.readouterr())).encode()
    assert written.count(b"uncaught exception") == 2, "the paths were taken"
    assert written.count(b"python warning") == 1
    assert_absent(written, [CANARY_VALUE, CANARY_KEY])


def test_a_failure_is_told_by_class_and_place(lines) -> None:
    try:
        fail_with_canary()
    except ExceptionGroup:
        get_logger().exception("it failed")

    (line,) = lines()
    classes = [item["class"] for item in line["exception"]]
    assert classes == ["ExceptionGroup", "phasesync.errors.UnresolvedReferenceError", "KeyError", "ValueError"]
    assert line["exception"][0]["frames"][-1].endswith(" fail_with_canary")
    assert (line["level"], line["logger"], line["event"]) == ("error", "phasesync", "it failed")


def test_a_chain_without_end_is_cut() -> None:
    error: Exception = ValueError()
    for _ in range(1000):
        cause, error = error, ValueError()
        error.__cause__ = cause
    loop = ValueError()
    loop.__context__ = KeyError()
    loop.__context__.__context__ = loop

    assert len(describe(error)) == 10
    assert [item["class"] for item in describe(loop)] == ["ValueError", "KeyError"]


def test_a_deep_recursion_is_cut_in_the_middle() -> None:
    def deeper(n: int) -> None:
        if n == 0:
            raise ValueError
        deeper(n - 1)

    with pytest.raises(ValueError) as caught:
        deeper(200)

    frames = describe(caught.value)[0]["frames"]
    assert isinstance(frames, list) and len(frames) == 31
    assert frames[15].endswith(" more")


def test_the_level_changes_while_loggers_are_in_use(lines) -> None:
    log = get_logger("phasesync.daemon")
    log.debug("one")
    set_level("debug")
    log.debug("two")
    set_level("error")
    log.warning("three")
    log.error("four")

    assert [line["event"] for line in lines()] == ["two", "four"]


def test_foreign_loggers_stay_at_warning_whatever_they_were_set_to(stream) -> None:
    logging.getLogger("botocore.parsers").setLevel(logging.DEBUG)
    logging.getLogger("botocore.parsers").addHandler(logging.StreamHandler(stream))
    configure_logging(level="debug", format="json", stream=stream)

    for name in ("botocore.parsers", "botocore", "urllib3", "sqlalchemy.engine", "alembic.runtime.migration", "other"):
        logging.getLogger(name).info("not shown")
    logging.getLogger("apscheduler.scheduler").warning("not shown either")
    logging.getLogger("botocore.parsers").warning("shown, %d times", 1)

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["shown, 1 times"]


def test_auto_writes_for_people_on_a_terminal_and_json_elsewhere(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, as_json in ((io.StringIO(), True), (Terminal(), False)):
        configure_logging(level="info", format="auto", stream=stream)
        get_logger().info("hello", sync="billing")
        assert stream.getvalue().startswith("{") is as_json
        assert "hello" in stream.getvalue() and "billing" in stream.getvalue()


def test_a_terminal_without_colours_gets_none(monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure_logging(level="info", format="console", stream=stream)
    get_logger().info("hello")

    assert "\x1b" not in stream.getvalue()


def test_a_line_that_cannot_be_written_does_no_harm(capfd) -> None:
    configure_logging(level="info", format="json", stream=Unwritable())

    get_logger().info("lost", value=CANARY_VALUE)

    assert capfd.readouterr() == ("", "")


def test_an_uncaught_exception_ends_the_process_without_its_text() -> None:
    program = (
        "from phasesync.adapters.telemetry.logging import configure_logging\n"
        "configure_logging(level='info', format='json')\n"
        "raise ValueError('hush-' + 'hush')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["exception"][0]["class"] == "ValueError"
    assert "hush-hush" not in done.stderr
