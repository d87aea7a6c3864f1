"""
Refusals of IAM, with the status codes of its API model, and the texts that several rules use.

Texts are AWS's own as far as they are public; where each was read stands in the docstring of the rule that raises it.
That a user or a group cannot be found, and that a user exists: LocalStack's snapshots of AWS.
"""

from phasesync.testing.aws_shim.errors import AwsError


def no_such(text: str) -> AwsError:
    """Something does not exist."""
    return AwsError("NoSuchEntity", text, status=404)


def no_such_user(name: str) -> AwsError:
    """There is no such user."""
    return no_such(f"The user with name {name} cannot be found.")


def no_such_group(name: str) -> AwsError:
    """There is no such group."""
    return no_such(f"The group with name {name} cannot be found.")


def exists(text: str) -> AwsError:
    """A name is taken."""
    return AwsError("EntityAlreadyExists", text, status=409)


def conflict(text: str) -> AwsError:
    """Something hangs on what shall be deleted."""
    return AwsError("DeleteConflict", text, status=409)


def over_quota(name: str, most: int) -> AwsError:
    """A quota that does not come back by waiting, by its name in AccountSummary's style."""
    return limit_exceeded(f"Cannot exceed quota for {name}: {most}")


def limit_exceeded(text: str) -> AwsError:
    """A quota whose refusal has a text of its own."""
    return AwsError("LimitExceeded", text, status=409)


def invalid_input(text: str) -> AwsError:
    """A value that can never be right, found by IAM itself."""
    return AwsError("InvalidInput", text)


def invalid(text: str) -> AwsError:
    """A value that contradicts the API model."""
    return AwsError("ValidationError", text)
