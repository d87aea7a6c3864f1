"""
The error tree. Adapters and engine raise only these errors.

Each class defines what to do (disposition), the exit code of a command that ends with it, and a hint: the command or
the policy line that fixes it. The first line of its docstring is the default message. A message is built from codes,
names and numbers, never from the text of another exception: botocore and database drivers repeat arguments in theirs.

    PhasesyncError
    ├── SettingsError                      halt
    │   └── AnotherDatabaseError           halt, ends a daemon
    ├── EnvironmentStoreError
    │   ├── StoreUnavailableError          retry
    │   ├── CiphertextError                halt
    │   ├── KeyUnavailableError            halt
    │   └── UnresolvedReferenceError       halt
    ├── PlanError
    │   ├── PlanHeldError                  halt
    │   ├── StalePlanError                 replan
    │   └── OwnershipConflictError         halt
    ├── DestinationError
    │   ├── DestinationUnavailableError    retry
    │   ├── ThrottledError                 retry
    │   ├── CredentialRejectedError        halt, retried slowly
    │   ├── PermissionDeniedError          halt, retried slowly
    │   ├── RemoteChangedError             replan
    │   ├── PayloadTooLargeError           halt
    │   ├── QuotaExceededError             halt
    │   ├── StaleDatabaseError             halt
    │   ├── AccountMismatchError           halt
    │   ├── DestinationRejectedError       halt
    │   └── OutcomeUnknownError            replan
    ├── ChannelError
    │   ├── ChannelUnavailableError        retry
    │   └── ChannelRejectedError           halt
    ├── HostUnavailableError               retry
    ├── InternalError                      retry
    ├── StateError
    │   ├── ClaimHeldError                 retry
    │   ├── ClaimLostError                 replan
    │   ├── InterruptedRunError            replan, exit 130
    │   ├── SchemaMismatchError            halt
    │   ├── RetiredDatabaseError           halt, ends a daemon
    │   └── DatabaseCopyError              halt
    └── OperatorError                      halt
        ├── NotFoundError                  exit 5
        ├── AlreadyExistsError             exit 4
        ├── IllegalTransitionError         exit 4
        │   └── ProposalMovedError         exit 4
        ├── ApprovalNeededError            exit 4
        ├── InvalidInputError              exit 2
        │   └── DocumentError              exit 2
        ├── UnhealthyError                 exit 7
        └── ConfirmationRequiredError      exit 2
"""

import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Any


class Hint(str):
    """
    A hint with placeholders for names that are unknown when an error is raised. The engine fills them in.

    It is a string and can be printed as it is: a placeholder without a name reads NAME. Placeholders:

        {name}        the sync or the dynamic secret that the command is about
        {policy_for}  the argument of `phasesync aws policy` that prints the policy
        {credential}  its credential
    """

    _template: str
    _names: dict[str, str]

    def __new__(cls, template: str, **names: str) -> "Hint":
        """
        Args:
            template: the text, with placeholders in braces.
            names: placeholder -> text that is known already.
        """
        hint = super().__new__(cls, template.format_map(defaultdict(lambda: "NAME", names)))
        hint._template, hint._names = template, names
        return hint

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        """Have copies made from the template, not from the text."""
        return (self._template,), self._names

    def filled(self, **names: str) -> "Hint":
        """Return the hint with further names filled in."""
        return Hint(self._template, **{**self._names, **names})


class Disposition(Enum):
    """What an error asks for."""

    RETRY = "retry"
    """Try again later with growing pauses; no person has to act."""
    REPLAN = "replan"
    """The plan was made from a stale state: read and observe again, then make a new plan."""
    HALT = "halt"
    """A person has to change something first."""


class PhasesyncError(Exception):
    """phasesync could not do what was asked."""

    disposition = Disposition.HALT
    exit_code = 1
    default_hint: str | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """
        Args:
            message: one line for the operator; None means the first line of the class's docstring.
            hint: the command or policy line that fixes it; None means the class's default.
            code: the error code of AWS or another remote side, None if there is none.
            request_id: AWS's request id, for a support case.
        """
        self.message = message or cleandoc(type(self).__doc__ or "").partition("\n")[0]
        self.hint = hint or self.default_hint
        self.code = code
        self.request_id = request_id
        super().__init__(self.message)


class SettingsError(PhasesyncError):
    """The settings are not usable."""

    exit_code = 6


class AnotherDatabaseError(SettingsError):
    """The database was replaced by that of another installation."""


class HostUnavailableError(PhasesyncError):
    """This host cannot do now what is needed: a port is in use, or no more files can be opened."""

    disposition = Disposition.RETRY
    exit_code = 7


# --- the encrypted store


class EnvironmentStoreError(PhasesyncError):
    """The encrypted store could not be read."""


class StoreUnavailableError(EnvironmentStoreError):
    """The database is locked, busy or down."""

    disposition = Disposition.RETRY
    exit_code = 7


class CiphertextError(EnvironmentStoreError):
    """A stored value does not authenticate: it was altered, moved or damaged. Nothing is planned or written."""

    exit_code = 6
    default_hint = "restore a backup: phasesync db restore FILE"


class KeyUnavailableError(EnvironmentStoreError):
    """The root key is missing or is not the one this database was made with."""

    exit_code = 6
    default_hint = "set PHASESYNC_ROOT_KEY_FILE to the file with the key this database was made with"


class UnresolvedReferenceError(EnvironmentStoreError):
    """A reference is missing, ambiguous or circular."""

    default_hint = "correct the reference, or write $${ if a literal ${ is meant"


# --- plans


class PlanError(PhasesyncError):
    """The plan cannot be carried out."""


class PlanHeldError(PlanError):
    """The plan waits for an approval."""

    exit_code = 4

    def __init__(self, message: str | None = None, *, digest: str, hint: str | None = None) -> None:
        """
        Args:
            message: counts and limits that tripped the guard.
            digest: digest of the held changes, for `syncs approve --plan`.
            hint: None means the approve command.
        """
        self.digest = digest
        super().__init__(message, hint=hint or Hint("phasesync syncs approve {name} --plan {digest}", digest=digest))


class StalePlanError(PlanError):
    """The plan was made from a state that has changed since."""

    disposition = Disposition.REPLAN


class OwnershipConflictError(PlanError):
    """The remote object exists and is not ours."""

    exit_code = 4
    default_hint = Hint("phasesync syncs adopt {name} takes it over")


# --- the destination


class DestinationError(PhasesyncError):
    """The destination did not do what was asked."""

    exit_code = 7


class DestinationUnavailableError(DestinationError):
    """The destination could not be reached."""

    disposition = Disposition.RETRY


class ThrottledError(DestinationError):
    """The destination asks for fewer calls."""

    disposition = Disposition.RETRY

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: timedelta | None = None,
        hint: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """
        Args:
            message: None means the class's default.
            retry_after: how long the destination asks to wait, None if it does not say.
            hint: None if nobody has to do anything.
            code: the AWS error code.
            request_id: AWS's request id.
        """
        self.retry_after = retry_after
        super().__init__(message, hint=hint, code=code, request_id=request_id)


class CredentialRejectedError(DestinationError):
    """AWS rejected the credential."""

    default_hint = Hint("phasesync credentials test {credential} says what is wrong")


class PermissionDeniedError(DestinationError):
    """The credential lacks a permission."""

    def __init__(
        self,
        message: str | None = None,
        *,
        action: str | None = None,
        hint: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """
        Args:
            message: None means the class's default, with the action.
            action: the refused IAM action, such as `secretsmanager:CreateSecret`; None if AWS does not name it.
            hint: None means the command that prints a policy with the action.
            code: the AWS error code.
            request_id: AWS's request id.
        """
        self.action = action
        if message is None and action is not None:
            message = f"the credential is not allowed to call {action}"
        if hint is None and action is not None:
            reading = " --with-import" if action == "secretsmanager:GetSecretValue" else ""
            arguments, subject, starter = f"{{policy_for}}{reading}", "a sync", f"sync{reading}"
            if action.startswith(("iam:", "sts:")):
                arguments, subject, starter = "--dynamic {name}", "a dynamic secret", "dynamic"
            hint = Hint(
                f'allow "{{action}}" in the policy of the role or user: phasesync aws policy {arguments} prints the '
                f"whole policy of {subject}, phasesync aws policy --starter {starter} --credential {{credential}} the "
                "one to begin with",
                action=action,
                credential="CREDENTIAL",
            )
        super().__init__(message, hint=hint, code=code, request_id=request_id)


class RemoteChangedError(DestinationError):
    """The remote object changed between looking and writing."""

    disposition = Disposition.REPLAN
    exit_code = 1


class PayloadTooLargeError(DestinationError):
    """The payload is larger than the destination takes."""

    exit_code = 1
    default_hint = "split the environment into folders and give each its own sync (--path)"

    def __init__(
        self, message: str | None = None, *, size_bytes: int, limit_bytes: int, largest: tuple[str, ...]
    ) -> None:
        """
        Args:
            message: None means that it is built from the numbers and names.
            size_bytes: the payload's size in UTF-8 bytes.
            limit_bytes: the limit of the destination.
            largest: names of the largest keys with their sizes, largest first.
        """
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        self.largest = largest
        super().__init__(
            message
            or f"the payload has {size_bytes:,} bytes, the limit is {limit_bytes:,}; largest keys: {', '.join(largest)}"
        )


class QuotaExceededError(DestinationError):
    """A hard quota of the AWS account is used up."""

    exit_code = 1
    retry_after: timedelta | None = None
    """Pause before the next try: AWS has room again as versions become 24 h old. None if a person has to fix it."""


class StaleDatabaseError(DestinationError):
    """AWS is ahead of this database: it is an older backup, or a copy of it is at work."""

    exit_code = 4
    default_hint = "stop the other copy, or restore a newer backup; to go on with this one: phasesync db accept-restore"


class AccountMismatchError(DestinationError):
    """The credential now leads to another AWS account than the pinned one."""

    exit_code = 4


class DestinationRejectedError(DestinationError):
    """AWS rejected the request."""

    exit_code = 1


class OutcomeUnknownError(DestinationError):
    """The write may have landed: the answer was lost."""

    disposition = Disposition.REPLAN
    exit_code = 1


# --- channels of notifications


class ChannelError(PhasesyncError):
    """A notification could not be sent."""

    exit_code = 7


class ChannelUnavailableError(ChannelError):
    """The channel of a notification could not be reached, or takes nothing now."""

    disposition = Disposition.RETRY

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: timedelta | None = None,
        hint: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """
        Args:
            message: None means the class's default.
            retry_after: how long the receiver asks to wait, None if it does not say.
            hint: None if nobody has to do anything.
            code: status or error code of the receiver.
            request_id: AWS's request id.
        """
        self.retry_after = retry_after
        super().__init__(message, hint=hint, code=code, request_id=request_id)


class ChannelRejectedError(ChannelError):
    """The receiver refuses the notification, or its channel is not usable."""


# --- our own


class InternalError(PhasesyncError):
    """phasesync met a defect of its own."""

    disposition = Disposition.RETRY
    default_hint = "report it with the class names above; no value is in them"

    @classmethod
    def of_defect(cls, error: Exception) -> "InternalError":
        """Return the error for a defect: its class and its place. Its text may carry values and is left out."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
        return cls(f"internal error: {where}")


class StateError(PhasesyncError):
    """phasesync's own state is in the way."""


class ClaimHeldError(StateError):
    """Another process is reconciling this sync."""

    disposition = Disposition.RETRY
    exit_code = 4


class ClaimLostError(StateError):
    """The claim on this sync passed to another process."""

    disposition = Disposition.REPLAN


class InterruptedRunError(StateError):
    """The run was interrupted before it was done."""

    disposition = Disposition.REPLAN
    exit_code = 130


class SchemaMismatchError(StateError):
    """The database has another schema than this release understands."""

    exit_code = 6
    default_hint = "phasesync db migrate"


class RetiredDatabaseError(StateError):
    """This database is retired: it was copied, and the copy is in use."""

    exit_code = 6
    default_hint = "phasesync db status says where the copy is; set PHASESYNC_DATABASE_URL to it"


class DatabaseCopyError(StateError):
    """The copy of the database is not like the original."""

    exit_code = 6


# --- what an operator asked for


class OperatorError(PhasesyncError):
    """The request cannot be carried out."""


class NotFoundError(OperatorError):
    """There is no such object."""

    exit_code = 5


class AlreadyExistsError(OperatorError):
    """The object exists already."""

    exit_code = 4


class IllegalTransitionError(OperatorError):
    """The object is in a state that does not allow this."""

    exit_code = 4


class ProposalMovedError(IllegalTransitionError):
    """What a request for a change starts from has changed since."""

    default_hint = "the change has to be asked for again"


class ApprovalNeededError(OperatorError):
    """The environment is protected: somebody else has to approve the change. Nothing was changed."""

    exit_code = 4

    def __init__(
        self, message: str | None = None, *, environments: Mapping[str, str] | None = None, proposal: Any = None
    ) -> None:
        """
        Args:
            message: None means that it names the environments.
            environments: id -> `app/environment` of the protected environments that the change concerns.
            proposal: the change, a `Proposal`; it is filed as a request by `engine/approvals.py`.
        """
        self.environments = environments or {}
        self.proposal = proposal
        if message is None and self.environments:
            labels, verb = ", ".join(self.environments.values()), "is" if len(self.environments) == 1 else "are"
            message = f"{labels} {verb} protected: somebody else has to approve the change; nothing was changed"
        super().__init__(message)


class InvalidInputError(OperatorError):
    """The input is not valid."""

    exit_code = 2


class DocumentError(InvalidInputError):
    """A document is not valid."""

    def __init__(self, problems: Sequence[str]) -> None:
        """
        Args:
            problems: one line each, `file:line:column: what is wrong; how to correct it`; at least one. The message is
                the first one; who shows the error to a person shows all of them.
        """
        self.problems = tuple(problems)
        more = len(self.problems) - 1
        super().__init__(f"{self.problems[0]} (and {more:,} more)" if more else self.problems[0])


class UnhealthyError(OperatorError):
    """The daemon is not healthy, or none answers."""

    exit_code = 7


class ConfirmationRequiredError(OperatorError):
    """This needs a confirmation and no terminal is there to ask."""

    exit_code = 2
    default_hint = "add --yes"
