"""
Refusals in AWS's form, and the ones that several rules use: first Secrets Manager's, then IAM's.

Texts are AWS's own as far as they are public; the rule that raises one names where it was read.
"""

from typing import Final


class AwsError(Exception):
    """An answer that refuses a request."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        """
        Args:
            code: AWS's error code.
            message: AWS's text.
            status: the HTTP status.
        """
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status


MARKED: Final = "You can't perform this operation on the secret because it was marked for deletion."
"""User Guide, monitoring, secrets scheduled for deletion; LocalStack's provider, checked against AWS."""


def not_found() -> AwsError:
    """Return the refusal of a secret that does not exist (public: LocalStack's provider, moto)."""
    return AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def invalid_parameter(message: str) -> AwsError:
    """Return the refusal of a value that can never be right."""
    return AwsError("InvalidParameterException", message)


def invalid_request(message: str) -> AwsError:
    """Return the refusal of what the secret's state does not allow (API reference, InvalidRequestException)."""
    return AwsError("InvalidRequestException", message)


def marked_for_deletion() -> AwsError:
    """Return the refusal of a secret that is scheduled for deletion."""
    return invalid_request(MARKED)


def exists(message: str) -> AwsError:
    """Return the refusal of a name or token that is taken."""
    return AwsError("ResourceExistsException", message)


def limit_exceeded(message: str) -> AwsError:
    """Return the refusal of more than a quota that waiting does not restore."""
    return AwsError("LimitExceededException", message)


def model_violation(shape_message: str) -> AwsError:
    """Return the refusal of a request that contradicts the API model; all AWS services answer alike."""
    return AwsError("ValidationException", f"1 validation error detected: {shape_message}")


# --- IAM, with the status codes of its API model
#
# That a user or a group cannot be found, and that a user exists: LocalStack's snapshots of AWS.


def no_such_entity(text: str) -> AwsError:
    """Return the refusal of a name that does not exist."""
    return AwsError("NoSuchEntity", text, status=404)


def no_such_user(name: str) -> AwsError:
    """Return the refusal of a user name that does not exist."""
    return no_such_entity(f"The user with name {name} cannot be found.")


def no_such_group(name: str) -> AwsError:
    """Return the refusal of a group name that does not exist."""
    return no_such_entity(f"The group with name {name} cannot be found.")


def entity_exists(text: str) -> AwsError:
    """Return the refusal of a name that is taken."""
    return AwsError("EntityAlreadyExists", text, status=409)


def delete_conflict(text: str) -> AwsError:
    """Return the refusal to delete something that still has dependants."""
    return AwsError("DeleteConflict", text, status=409)


def iam_over_quota(name: str, most: int) -> AwsError:
    """Return the refusal of more than a quota, named as in AccountSummary."""
    return iam_limit_exceeded(f"Cannot exceed quota for {name}: {most}")


def iam_limit_exceeded(text: str) -> AwsError:
    """Return the refusal of more than a quota, with a text of its own."""
    return AwsError("LimitExceeded", text, status=409)


def invalid_input(text: str) -> AwsError:
    """Return the refusal of a value that can never be right, found by IAM itself."""
    return AwsError("InvalidInput", text)


def validation_error(text: str) -> AwsError:
    """Return the refusal of a value that contradicts the API model."""
    return AwsError("ValidationError", text)
