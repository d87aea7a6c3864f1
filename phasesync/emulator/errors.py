"""
Refusals in AWS's form, and the ones that several rules use.

Texts are AWS's own as far as they are public; where each was read stands in the docstring of the rule that raises it.
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
    """No such secret (public: LocalStack's provider, moto)."""
    return AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def invalid_parameter(message: str) -> AwsError:
    """A value that can never be right."""
    return AwsError("InvalidParameterException", message)


def invalid_request(message: str) -> AwsError:
    """A value that is not right in the present state of the secret (API reference, InvalidRequestException)."""
    return AwsError("InvalidRequestException", message)


def marked_for_deletion() -> AwsError:
    """The secret is scheduled for deletion."""
    return invalid_request(MARKED)


def exists(message: str) -> AwsError:
    """The name or the token is taken."""
    return AwsError("ResourceExistsException", message)


def limit_exceeded(message: str) -> AwsError:
    """A quota that does not come back by waiting a little."""
    return AwsError("LimitExceededException", message)


def unreadable(shape_message: str) -> AwsError:
    """A request that contradicts the API model; all AWS services answer alike."""
    return AwsError("ValidationException", f"1 validation error detected: {shape_message}")
