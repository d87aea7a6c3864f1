"""
Names of secrets: which ones a new secret may have.

The length is in the API model (`shapes.py`). Characters: API reference, CreateSecret, Name ("ASCII letters, numbers,
and the following characters: /_+=.@-"). Code and text of the refusal: public, LocalStack's provider, which is checked
against AWS; the text names `!` because AWS's own services make such names.
"""

import re
from typing import Final

from phasesync.testing.aws_shim.errors import AwsError

_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]+")


def check_name(name: str) -> None:
    """Refuse a name with other characters: ValidationException."""
    if not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )
