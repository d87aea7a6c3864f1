"""Checks of a configuration that all issuers share: TTLs, policy documents, and settings of other issuers."""

from datetime import timedelta

from phasesync.core.canonical_json import parse_json_document
from phasesync.core.dynamic import DynamicConfig
from phasesync.core.times import duration_text
from phasesync.errors import InvalidInputError


def require_no(kind: str, **settings: object) -> None:
    """Refuse settings that an issuer does not have. InvalidInputError with the name of the first one."""
    for name, value in settings.items():
        if value or value == "":  # An empty file is a setting, too.
            raise InvalidInputError(f"--{name.replace('_', '-')} is not for the issuer {kind}")


def check_ttls(config: DynamicConfig, *, shortest: timedelta, longest: timedelta | None, why: str) -> None:
    """
    Make sure that an issuer supports the TTLs of a configuration.

    Args:
        config: the configuration.
        shortest: TTL that the issuer supports.
        longest: TTL that the issuer supports; None means any.
        why: the reason for the longest one, for the message.

    Raises:
        InvalidInputError: a TTL is out of bounds, or the default is longer than the maximum.
    """
    for name, ttl in (("--default-ttl", config.default_ttl), ("--max-ttl", config.max_ttl)):
        if ttl < shortest:
            raise InvalidInputError(
                f"{name} {duration_text(ttl)} is too short: the shortest life is {duration_text(shortest)}"
            )
        if longest is not None and ttl > longest:
            raise InvalidInputError(
                f"{name} {duration_text(ttl)} is too long: the longest life is {duration_text(longest)}: {why}"
            )
    if config.default_ttl > config.max_ttl:
        raise InvalidInputError(
            f"--default-ttl {duration_text(config.default_ttl)} is longer than "
            f"--max-ttl {duration_text(config.max_ttl)}",
            hint=f"--default-ttl {duration_text(config.max_ttl)} or shorter, or --max-ttl "
            f"{duration_text(config.default_ttl)} or longer",
        )


def check_policy_document(document: str, limit: int, *, name: str) -> None:
    """Make sure that a text is an IAM policy of at most `limit` characters without white space. InvalidInputError."""
    try:
        policy, reason = parse_json_document(document.encode()), "a JSON object with a Statement"
    except InvalidInputError as error:
        policy, reason = None, error.message
    if not isinstance(policy, dict) or not isinstance(policy.get("Statement"), list | dict):
        raise InvalidInputError(
            f"{name} is not an IAM policy: {reason}",
            hint='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*"}]}',
        )
    size = sum(not character.isspace() for character in document)
    if size > limit:
        raise InvalidInputError(f"{name} has {size:,} characters, IAM takes {limit:,}")
