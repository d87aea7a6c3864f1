"""`phasesync notifications`: whom to tell what is wrong. URLs of channels and signing secrets are not shown again."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from phasesync.cli.dry_run import dry_run_option, is_dry_run
from phasesync.cli.input import MAX_BYTES, confirm, confirmation_options, is_terminal, read_stdin
from phasesync.cli.invocation import with_application
from phasesync.cli.output import Output, output_option, show_identity
from phasesync.cli.paging import Paging, paging_options, show_list
from phasesync.cli.params import DURATION, Name, Words, comma_list
from phasesync.cli.secret_prompt import ask_secret
from phasesync.core.model import SecretValue
from phasesync.core.notification import WORDS
from phasesync.core.project.ownership import ObjectKind
from phasesync.errors import InvalidInputError, PhasesyncError

if TYPE_CHECKING:
    from phasesync.bootstrap import Application
    from phasesync.core.channels import Channel
    from phasesync.core.notification import Notification
    from phasesync.engine.notification_admin import Changed, NotificationChanges

NOTIFICATION = Name("notification")
name_argument = click.argument("name", type=NOTIFICATION)


@click.group()
def notifications() -> None:
    """Notifications: whom to tell what is wrong."""


@notifications.command("list")
@paging_options("notifications")
@output_option
@with_application
def list_(application: "Application", paging: Paging, out: Output) -> None:
    """
    List notifications, with when they last sent a message, how many wait, and why the newest attempt failed.

    \b
    Example:
      phasesync notifications list
    """
    columns = ["name", "to", "on", "app", "after_s", "sent_at", "pending", "last_error"]
    failing: list[str] = []

    def to_item(listed: "Notification") -> dict[str, Any]:
        document = _document(application, listed)
        if document["last_error"] is not None:
            failing.append(listed.name)
        return document

    show_list(
        out,
        paging,
        lambda after, limit: application.store.notifications.page(after=after, limit=limit),
        to_item,
        columns,
        empty="there are no notifications yet: phasesync notifications add --help",
    )
    if failing:
        out.say(f"hint: phasesync notifications test {failing[0]} says what the receiver answers")


@notifications.command()
@name_argument
@output_option
@with_application
def show(application: "Application", name: str, out: Output) -> None:
    """
    Show one notification. The secret parts of its channel are not shown.

    \b
    Example:
      phasesync notifications show ops
    """
    from phasesync.cli.documents import owner_document

    notification = application.store.notifications.get(name)
    owner = application.store.projects.owner_of(ObjectKind.NOTIFICATION, notification.id)
    out.item(_document(application, notification) | owner_document(owner))


def _quiet_hours(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of all uses of the option; ('',) drops what was set before."""
    del context, parameter
    hours = tuple(part.strip() for text in texts for part in text.split(";"))
    if len(hours) > 1 and "" in hours:
        raise InvalidInputError("--quiet '' stands alone: it drops all quiet hours", hint="leave it out, or the others")
    return hours


F = TypeVar("F", bound=Callable[..., Any])


def _rules_options(*, new: bool) -> Callable[[F], F]:
    """Return the options of add and update; those of update leave alone what they do not name."""

    def otherwise(text: str) -> str:
        return f" Default: {text}." if new else " Default: as it was."

    options = [
        click.option(
            "--to",
            metavar="URL",
            required=new,
            help="Where it goes: slack://hooks.slack.com/services/..., https://HOST/PATH, sns:ARN or "
            "mailto:NAME@HOST. - asks for it, or reads it from stdin: whoever has the URL of a webhook can send to it."
            + ("" if new else " Default: as it was."),
        ),
        click.option(
            "--on",
            type=Words(WORDS),
            multiple=True,
            callback=comma_list,
            metavar="CONDITION,...",
            help=f"What it reports: {', '.join(WORDS[:-1])} and {WORDS[-1]}. Repeat it, or separate several with "
            "commas." + otherwise("all of them but drift"),
        ),
        click.option(
            "--app",
            type=Name("app"),
            help="Report only what belongs to this app." + otherwise("everything is reported"),
        ),
        click.option(
            "--after",
            type=DURATION,
            help="Report what has lasted so long, such as 15m." + otherwise("at once, and stale after 15m"),
        ),
        click.option(
            "--quiet",
            multiple=True,
            callback=_quiet_hours,
            metavar="TEXT",
            help="When nothing is sent, such as '22:00-07:00 Mon-Fri Europe/Berlin'; what is still wrong at its end "
            "goes out then. Repeat it, or separate several with semicolons (commas belong to the days); '' drops them."
            + otherwise("none"),
        ),
        click.option(
            "--remind-after",
            type=DURATION,
            help="When to remind of what is still wrong; each pause is twice the one before, up to 24h. 0s: never."
            + otherwise("1h"),
        ),
        click.option(
            "--signing-secret",
            metavar="-|new",
            help="Secret that signs the messages of a webhook (https://): - asks for it, or reads it from stdin; new "
            "makes one and prints it once." + otherwise("new"),
        ),
    ]

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@notifications.command()
@name_argument
@_rules_options(new=True)
@output_option
@with_application
@dry_run_option
def add(
    application: "Application",
    name: str,
    to: str,
    on: tuple[str, ...],
    app: str | None,
    after: timedelta | None,
    quiet: tuple[str, ...],
    remind_after: timedelta | None,
    signing_secret: str | None,
    out: Output,
) -> None:
    """
    Add a notification. What is wrong already is reported, too.

    A webhook (https://) gets a signing secret, which is printed this once.

    \b
    Examples:
      phasesync notifications add ops --to - --after 15m
      phasesync notifications add ops --to mailto:ops@example.com --on halted,held,recovered
      phasesync notifications add topic --to sns:arn:aws:sns:eu-west-1:111122223333:ops --app shop
    """
    changes = _changes(to, on, app, after, quiet, remind_after, signing_secret)
    changed = application.notification_operations.add(name, changes)
    _show_changed(
        application,
        out,
        changed,
        f"added the notification {name}; next: phasesync notifications test {name}",
        typed=to != "-",
    )


@notifications.command()
@name_argument
@_rules_options(new=False)
@click.option("--all-apps", is_flag=True, help="Report everything again, whatever app it belongs to.")
@output_option
@with_application
@dry_run_option
def update(
    application: "Application",
    name: str,
    to: str | None,
    on: tuple[str, ...],
    app: str | None,
    after: timedelta | None,
    quiet: tuple[str, ...],
    remind_after: timedelta | None,
    signing_secret: str | None,
    all_apps: bool,
    out: Output,
) -> None:
    """
    Change a notification. What is not given stays as it is.

    \b
    Examples:
      phasesync notifications update ops --after 30m --quiet '22:00-07:00 Europe/Berlin'
      phasesync notifications update ops --signing-secret new
    """
    if all_apps and app is not None:
        raise InvalidInputError("--app and --all-apps exclude each other")
    given = (to, app, after, remind_after, signing_secret)
    if all(value is None for value in given) and not (on or quiet or all_apps):
        raise InvalidInputError("there is nothing to change", hint="phasesync notifications update --help")
    changes = _changes(to, on, "" if all_apps else app, after, quiet, remind_after, signing_secret)
    changed = application.notification_operations.update(name, changes)
    _show_changed(application, out, changed, f"updated the notification {name}", typed=to not in (None, "-"))


@notifications.command()
@name_argument
@output_option
@with_application
@dry_run_option
def test(application: "Application", name: str, out: Output) -> None:
    """
    Send one message now, from here, and print how that went. Exit code 7 if it could not be delivered.

    A topic of SNS that names no credential is published to as the identity of this shell, not as that of the daemon.

    \b
    Example:
      phasesync notifications test ops
    """
    notification = application.store.notifications.get(name)
    document = _document(application, notification)
    if is_dry_run():
        out.done(f"one message would be sent to {document['to']}", document | {"delivered": None, "remark": None})
        return
    _show_publisher(application, notification, out)
    remark = application.notification_operations.test(name, application.channels)
    if remark is not None:
        out.warn(remark)
    out.done(f"sent a test to {document['to']}", document | {"delivered": True, "remark": remark})


def _show_publisher(application: "Application", notification: "Notification", out: Output) -> None:
    """Print account and ARN of who publishes to a topic; a channel of another kind has none."""
    from phasesync.core.channels import Topic
    from phasesync.core.credential import daemon_identity

    channel = notification.channel
    if not isinstance(channel, Topic):
        return
    try:
        named = channel.credential
        credential = daemon_identity(channel.region) if named is None else application.store.credentials.get(named)
        show_identity(application, credential, out)
    except PhasesyncError as error:  # STS may be out of reach where SNS is not.
        out.warn(f"the identity is not known: {error.message}")


@notifications.command()
@name_argument
@confirmation_options
@output_option
@with_application
@dry_run_option
def remove(application: "Application", name: str, yes: bool, no_input: bool, out: Output) -> None:
    """
    Remove a notification. What waits to be sent is dropped.

    \b
    Example:
      phasesync notifications remove ops --yes
    """
    confirm(f"remove the notification {name}", yes=yes, no_input=no_input)
    dropped = application.store.notifications.remove(name)
    waiting = f"; {dropped} messages that waited are not sent" if dropped else ""
    out.done(f"removed the notification {name}{waiting}", {"removed": name, "dropped": dropped})


def _changes(
    to: str | None,
    on: tuple[str, ...],
    app: str | None,
    after: timedelta | None,
    quiet: tuple[str, ...],
    remind_after: timedelta | None,
    signing_secret: str | None,
) -> "NotificationChanges":
    from phasesync.engine.notification_admin import NewSecret, NotificationChanges

    if signing_secret not in (None, "-", "new"):
        raise InvalidInputError(
            "a signing secret is never taken from an argument: arguments are seen by everyone on this machine",
            hint="--signing-secret - asks for it or reads it from stdin; and make another one, since this one was seen",
        )
    if to == signing_secret == "-" and not is_terminal():
        raise InvalidInputError("stdin holds the channel or the signing secret, not both", hint="run update for one")
    url = None
    if to is not None:
        url = _ask("Channel (URL)", "the channel") if to == "-" else SecretValue(to)
    secret: SecretValue | NewSecret | None = NewSecret.RANDOM if signing_secret == "new" else None
    if signing_secret == "-":
        secret = _ask("Signing secret", "the signing secret")
    return NotificationChanges(
        to=url,
        signing_secret=secret,
        on=on or None,
        app=app,
        after=after,
        quiet=None if not quiet else () if quiet == ("",) else quiet,
        remind_after=remind_after,
    )


def _ask(prompt: str, what: str) -> SecretValue:
    """Read a secret: without echo at a terminal, otherwise from stdin; white space around it is dropped."""
    if is_terminal():
        data = ask_secret(prompt, max_bytes=MAX_BYTES, otherwise="pipe it to stdin")
    elif sys.stdin.isatty():
        raise InvalidInputError(f"there is no terminal to ask for {what}", hint="pipe it to stdin")
    else:
        data = read_stdin()
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{what} is not text in UTF-8") from None
    if not text:
        raise InvalidInputError(f"{what} is empty", hint="pipe it to stdin, or type it at a terminal")
    return SecretValue(text)


def _show_changed(application: "Application", out: Output, changed: "Changed", message: str, *, typed: bool) -> None:
    """
    Report what was done, with a signing secret that was made: it is shown this once.

    `typed`: the channel was an argument of the command.
    """
    channel = changed.notification.channel
    if typed and channel is not None and channel.url.reveal_text() != channel.shown:
        out.warn(
            "the URL of this channel is a secret, and arguments are seen by everyone on this machine and kept by the "
            "shell; --to - asks for it or reads it from stdin"
        )
    rules = changed.notification.rules
    if rules is not None and not rules.recovered:
        words = ",".join((*rules.words, "recovered"))
        out.say(f"nothing is sent when it is over; to have that: --on {words}")
    if channel is not None and lacks_mail_server(application, channel):
        out.warn(NO_MAIL_SERVER)
    document = _document(application, changed.notification)
    secret = None if changed.new_secret is None or is_dry_run() else changed.new_secret.reveal_text()
    document["signing_secret"] = secret
    if secret is not None and not out.as_json:
        click.echo(f"signing secret: {secret}")
        out.say("it is shown this once: give it to the receiver, which checks with it that messages come from here")
    out.done(message, document)


NO_MAIL_SERVER = (
    "these settings have no server for mail: set notifications.smtp_url for the daemon, or write "
    "mailto:ADDRESS?smtp=smtp://USER@HOST:587"
)


def lacks_mail_server(application: "Application", channel: "Channel") -> bool:
    """Return whether a channel is mail for which neither its URL nor the settings of this process name a server."""
    from phasesync.core.channels import Mail

    return isinstance(channel, Mail) and channel.server is None and application.settings.notifications.smtp_url is None


def _document(application: "Application", notification: "Notification") -> dict[str, Any]:
    from phasesync.cli.documents import notification_document

    sent = application.store.notifications.sent([notification.id])
    return notification_document(notification, sent[notification.id])
