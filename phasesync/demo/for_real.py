"""The commands that do what the tour did against a real account, in their order."""

from typing import Final

COMMANDS: Final = (
    ("phasesync init", "data directory, root key, database"),
    ("phasesync apps add shop", ""),
    ("phasesync envs add shop/production", ""),
    ("phasesync secrets set shop/production DB_PASSWORD", "asks for the value; or import a file:"),
    ("phasesync secrets import shop/production .env", ""),
    ("phasesync credentials add aws --type assume-role --region eu-central-1", "prints the next three, filled in"),
    ("aws iam create-policy --policy-name phasesync-aws --policy-document ...", "in the account of the secrets"),
    ("aws iam create-role --role-name phasesync-aws --assume-role-policy-document ...", ""),
    ("aws iam attach-role-policy --role-name phasesync-aws --policy-arn ...", ""),
    ("phasesync credentials update aws --role-arn arn:aws:iam::ACCOUNT:role/phasesync-aws", ""),
    ("phasesync credentials test aws", ""),
    ("phasesync syncs add shop-production --env shop/production --credential aws --secret-name shop/production", ""),
    ("phasesync daemon", ""),
)
"""A command and a note on it."""
