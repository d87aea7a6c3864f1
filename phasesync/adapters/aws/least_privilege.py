"""
The IAM policy for exactly what a set of syncs does, and not more.

Three kinds of access to a secret, told apart by our instance tag, so that a role cannot change what is not ours:

    looking, tagging, untagging    on the syncs' names: adopting a secret begins with our tags. AWS refuses an untag
                                   that takes away the caller's own right (API reference, UntagResource), so giving a
                                   secret back can have no condition either; and a secret that is missing has no tags
    creating                       only with our instance tag in the request
    everything that changes one    only where our instance tag is

Pure: asks AWS nothing. Denies nothing, so that it never breaks what another policy allows. An identity policy needs no
kms:CallerAccount: the caller is always of the account that the policy is in.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from phasesync.adapters.aws.policies import (
    COPY_ACTIONS,
    KEY_ACTIONS,
    KMS_ACTIONS,
    VERSION,
    Document,
    allow,
    secret_arn,
    service_of,
)
from phasesync.core.arns import account_of
from phasesync.core.remote import TAG_INSTANCE, JournalEntry
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import AWS_MANAGED_KEY, OnRemove, Sync

Actions = Mapping[str, tuple[str, ...]]
"""What for -> the IAM actions it needs; `DestinationSpec.actions`."""

_LOOK: Final = frozenset(
    f"secretsmanager:{operation}"
    for operation in ("DescribeSecret", "GetResourcePolicy", "TagResource", "UntagResource", "ValidateResourcePolicy")
)
_CREATE: Final = frozenset({"secretsmanager:CreateSecret"})
_READ: Final = frozenset({"secretsmanager:GetSecretValue"})
_METADATA: Final = "secretsmanager:UpdateSecret"
_MAKE_COPIES: Final = "secretsmanager:ReplicateSecretToRegions"
_GIVE_BACK: Final = frozenset({"secretsmanager:DescribeSecret", "secretsmanager:UntagResource"})

_OURS: Final = {"look": None, "read": None, "create": "aws:RequestTag", "change": "aws:ResourceTag"}
"""Kind of access -> the condition key that asks for our tag (Service Authorization Reference, Secrets Manager)."""
_OF_NAMES: Final = ("look", "create")
"""Kinds of access that also concern a secret that does not exist yet."""
_LIKE_ANOTHERS_ARN: Final = re.compile(r"-[A-Za-z0-9]{6}$|\*[A-Za-z0-9]{1,6}$|[-*][A-Za-z0-9]{0,6}\*+$")
"""What names, as patterns, end in that also match the ARN of a secret with another name, six characters included."""
_SIDS: Final = {
    "look": "LookAtAndMark",
    "read": "ReadForImportAndVerify",
    "create": "CreateWithOurTag",
    "change": "ChangeWhereOurTagIs",
}


@dataclass(frozen=True, kw_only=True)
class Grant:
    """
    What one sync needs at AWS.

    Attributes:
        secrets: ARN of secrets, as a pattern -> the actions on them.
        keys: (Region, ARN of a customer-managed key) -> ARNs of the secrets that it may be used for, as patterns.
        sweep: the Region in which it lists secrets, None = it does not.
        copies: (Region, ARN of a key of another account) -> ARNs of copies and primaries, as patterns.
    """

    secrets: Mapping[str, frozenset[str]]
    keys: Mapping[tuple[str, str], frozenset[str]]
    sweep: str | None
    copies: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)


def grant_of(
    sync: Sync,
    actions: Actions,
    *,
    account: str | None,
    journal: Iterable[JournalEntry] = (),
    kms_key: str | None = None,
    copy_keys: Iterable[str] = (),
    with_import: bool = False,
    sweep: bool = True,
) -> Grant:
    """
    Return what a sync needs.

    Args:
        sync: its configuration is what counts.
        actions: of its destination kind.
        account: the 12-digit account it writes to; None = not known yet, any.
        journal: what it has written: secrets under former names are still its own to give back, or to delete.
        kms_key: ARN of a key that encrypts its secrets although the sync leaves the key alone.
        copy_keys: ARNs of keys of other accounts that encrypt copies of its secrets there; those of its Region count.
        with_import: also reading values, for an import and for `syncs verify`.
        sweep: also listing secrets.
    """
    config = sync.config
    pattern = name_of_key(config, app=sync.app, environment=sync.environment, path=sync.path, key="*")
    needed = set(actions["sync"])
    if config.description is None and config.kms_key is None:
        needed.discard(_METADATA)
    if config.on_remove is OnRemove.DELETE:
        needed.update(actions["delete"])
    if config.replicas is not None:
        needed.update(actions["replicate"])
        if not config.replicas:
            needed.discard(_MAKE_COPIES)
    if config.resource_policy is not None:
        needed.update(actions["resource-policy"])
    if with_import:
        needed.update(actions["import"])
    secrets = {secret_arn(pattern, region=sync.region, account=account): frozenset(needed)}
    for entry in journal:
        here = entry.region == sync.region
        if entry.account != account or not entry.written_before or (here and fnmatchcase(entry.remote_name, pattern)):
            continue
        deletes = here and config.on_remove is OnRemove.DELETE
        left = _GIVE_BACK | frozenset(actions["delete"] if deletes else ())
        secrets[secret_arn(entry.remote_name, region=entry.region, account=account)] = left
    named = [(sync.region, config.kms_key), (sync.region, kms_key), *(config.replicas or {}).items()]
    return Grant(
        secrets=secrets,
        # A copy has the ARN of its primary in another Region; a call for it may be about either.
        keys={
            (region, key): frozenset(secret_arn(pattern, region=one, account=account) for one in (sync.region, region))
            for region, key in named
            if key is not None and key != AWS_MANAGED_KEY
        },
        sweep=sync.region if sweep else None,
        # The copy may have any name: its account chose it. AWS does not say which of the two the call is about.
        copies={
            (sync.region, key): frozenset(
                [
                    secret_arn("*", region=sync.region, account=account_of(key)),
                    secret_arn(pattern, region=sync.region, account=account),
                ]
            )
            for key in copy_keys
            if key.split(":")[3] == sync.region
        },
    )


def policy_of(grants: Sequence[Grant], *, instance_id: str, more: Sequence[Document] = ()) -> Document:
    """
    Return the policy for what some syncs need, merged.

    Args:
        grants: of the syncs.
        instance_id: our instance, as our tags say it.
        more: further statements, for what else is done with the same credential.
    """
    statements: list[Document] = []
    for kind, sid in _SIDS.items():
        by_arn: dict[str, set[str]] = {}
        for grant in grants:
            for arn, needed in grant.secrets.items():
                for one in {arn, _before_it_exists(arn)} if kind in _OF_NAMES else {arn}:
                    by_arn.setdefault(one, set()).update(action for action in needed if _kind_of(action) == kind)
        key = _OURS[kind]
        condition = None if key is None else {"StringEquals": {f"{key}/{TAG_INSTANCE}": instance_id}}
        for actions, arns in _by_actions(by_arn):
            statements.append(allow(sid, actions, arns, condition))
    statements += _key_statements(grants)
    regions = sorted({grant.sweep for grant in grants if grant.sweep is not None})
    if regions:
        # Without it every secret is asked for on its own, which finds the same and takes more calls.
        here = {"StringEquals": {"aws:RequestedRegion": regions}}
        statements.append(allow("OptionalSweepByListing", ["secretsmanager:ListSecrets"], ["*"], here))
    return numbered({"Version": VERSION, "Statement": [*statements, *more]})


def numbered(policy: Document) -> Document:
    """Return a policy whose statements have different Sids, as IAM asks for."""
    seen: dict[str, int] = {}
    statements = []
    for statement in policy["Statement"]:
        sid = statement["Sid"].rstrip("0123456789")
        seen[sid] = seen.get(sid, 0) + 1
        statements.append(statement | {"Sid": sid if seen[sid] == 1 else f"{sid}{seen[sid]}"})
    return policy | {"Statement": statements}


def _before_it_exists(arn: str) -> str:
    """
    Return the pattern for a secret that does not exist yet and so has no six characters at its end.

    The guide says that the six question marks cover it (User Guide, identity-based policies); AWS's own refusals name
    such a secret without them. A pattern that ends like an ARN is returned as it is: without the question marks,
    `shop-*` and `shop-abc123` would be the secret `shop` as well.
    """
    bare = arn.removesuffix("-??????")
    return arn if _LIKE_ANOTHERS_ARN.search(bare.partition(":secret:")[2]) else bare


def _kind_of(action: str) -> str:
    """Return the kind of access that an action is; one that is not known may only change what is ours."""
    for kind, actions in (("look", _LOOK), ("create", _CREATE), ("read", _READ)):
        if action in actions:
            return kind
    return "change"


def _by_actions(by_arn: Mapping[str, set[str]]) -> list[tuple[list[str], list[str]]]:
    """Return (actions, ARNs) with the ARNs that have the same actions together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for arn, actions in sorted(by_arn.items()):
        if actions:
            together.setdefault(tuple(sorted(actions)), []).append(arn)
    return [(list(actions), arns) for actions, arns in sorted(together.items())]


def _key_statements(grants: Sequence[Grant]) -> list[Document]:
    """Return a statement for each key, and one for asking KMS about keys, which no service does in our name."""
    contexts = _merged(grant.keys for grant in grants)
    copies = _merged(grant.copies for grant in grants)
    statements = [_use_of_key("EncryptThroughSecretsManager", KMS_ACTIONS, *one) for one in sorted(contexts.items())]
    statements += [_use_of_key("EncryptCopiesInOtherAccounts", COPY_ACTIONS, *one) for one in sorted(copies.items())]
    if contexts:
        statements.append(allow("FindNamedKeys", KEY_ACTIONS, sorted({key for _, key in contexts})))
    return statements


def _merged(grants: Iterable[Mapping[tuple[str, str], frozenset[str]]]) -> dict[tuple[str, str], list[str]]:
    """Return (Region, key) -> ARNs of the secrets that it may be used for, of all grants together."""
    found: dict[tuple[str, str], set[str]] = {}
    for grant in grants:
        for place, arns in grant.items():
            found.setdefault(place, set()).update(arns)
    return {place: sorted(arns) for place, arns in found.items()}


def _use_of_key(sid: str, actions: Sequence[str], place: tuple[str, str], secrets: list[str]) -> Document:
    """Return a statement for a key: through Secrets Manager alone, and for these secrets."""
    region, key = place
    return allow(
        sid,
        actions,
        [key],
        {
            "StringEquals": {"kms:ViaService": service_of(region)},
            "StringLike": {"kms:EncryptionContext:SecretARN": secrets},
        },
    )
