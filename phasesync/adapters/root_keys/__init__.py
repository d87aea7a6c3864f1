"""Where root keys come from: a file, an age file, the environment, a systemd credential, AWS KMS."""

from phasesync.adapters.root_keys.files import key_file_exists, next_file_of, write_new_root_key
from phasesync.adapters.root_keys.sources import (
    CREDENTIAL_NAME,
    NEXT_CREDENTIAL_NAME,
    find_root_key,
    load_next_root_keys,
    load_root_key,
)

__all__ = [
    "CREDENTIAL_NAME",
    "NEXT_CREDENTIAL_NAME",
    "find_root_key",
    "key_file_exists",
    "load_next_root_keys",
    "load_root_key",
    "next_file_of",
    "write_new_root_key",
]
