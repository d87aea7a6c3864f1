"""Words of ownership: what a project document can own, and what happens to changes by hand."""

from enum import StrEnum


class ObjectKind(StrEnum):
    """Kinds of objects that a document can own."""

    APP = "app"
    ENVIRONMENT = "environment"
    VALUES = "values"
    """The values of an environment, under its id: they come from a file."""
    CREDENTIAL = "credential"
    SYNC = "sync"
    DYNAMIC = "dynamic"
    NOTIFICATION = "notification"


class Manage(StrEnum):
    """What happens to edits by hand of what a project owns."""

    TRACK = "track"
    """They are shown as drift from code."""
    STRICT = "strict"
    """They are refused."""
