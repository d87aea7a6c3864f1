"""Which tags a remote object shall carry, by the tag mode of its sync. Owner marks are always written."""

from collections.abc import Mapping

from phasesync.core.model import SyncConfig, TagMode


def desired_tags(config: SyncConfig, owner: Mapping[str, str]) -> dict[str, str]:
    """Return all tags that the object must carry: the sync's own, where its mode writes any, and the owner marks."""
    own = {} if config.tag_mode is TagMode.NEVER else dict(config.tags)
    return dict(sorted((own | dict(owner)).items()))


def unwanted_tags(config: SyncConfig, desired: Mapping[str, str], written: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags to take off: only what we once wrote, only in mode replace-own, never one of AWS's."""
    if config.tag_mode is not TagMode.REPLACE_OWN:
        return ()
    return tuple(sorted(key for key in written if key not in desired and not key.startswith("aws:")))
