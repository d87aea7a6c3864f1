"""
The IAM policy for exactly what a set of syncs does, and the starter policy from before there is a sync.

Three kinds of access to a secret are distinguished by our instance tag, so that a role cannot change what is not ours:

    read, tag, untag     on the syncs' names: adopting a secret begins with our tags. AWS refuses an untag that takes
                         away the caller's own right (API reference, UntagResource), so releasing a secret can have no
                         condition either; and a missing secret has no tags
    create               only with our instance tag in the request
    every change         only on secrets with our instance tag

No statement denies, so that the policy never breaks what another policy allows. An identity policy needs no
kms:CallerAccount: the caller is always of the account that the policy is in.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from phasesync.core.arns import account_of, region_of_key
from phasesync.core.iam.document import VERSION, Document, allow, numbered
from phasesync.core.regions import dns_suffix_of, partition_of
from phasesync.core.remote import TAG_INSTANCE, JournalEntry
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import AWS_MANAGED_KEY, OnRemove, Sync, SyncConfig

Actions = Mapping[str, tuple[str, ...]]
"""Purpose -> the IAM actions that it needs; see `DestinationSpec.actions`."""

SYNC_ACTIONS: Final = (
    "secretsmanager:CreateSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:PutSecretValue",
    "secretsmanager:RestoreSecret",
    "secretsmanager:TagResource",
    "secretsmanager:UntagResource",
    "secretsmanager:UpdateSecret",
)
"""What a sync calls. No action reads a value, and none deletes."""

IMPORT_ACTIONS: Final = ("secretsmanager:GetSecretValue",)
"""What an import needs in addition, to read values."""

LIST_ACTIONS: Final = ("secretsmanager:ListSecrets",)
"""Listing takes no resource: IAM allows it on `*` only (User Guide, permissions for ListSecrets)."""

DELETE_ACTIONS: Final = ("secretsmanager:DeleteSecret", "secretsmanager:RemoveRegionsFromReplication")
"""A secret with copies cannot be deleted: the copies go first (User Guide, delete a secret)."""

REPLICATE_ACTIONS: Final = (
    "secretsmanager:RemoveRegionsFromReplication",
    "secretsmanager:ReplicateSecretToRegions",
)
"""Creating and removing copies in other Regions. Both are calls on the primary, in its Region."""

RESOURCE_POLICY_ACTIONS: Final = (
    "secretsmanager:GetResourcePolicy",
    "secretsmanager:PutResourcePolicy",
    "secretsmanager:ValidateResourcePolicy",
)
"""Comparing, checking and replacing a resource policy."""

KEY_ACTIONS: Final = ("kms:DescribeKey",)
"""What we call in KMS ourselves, to find the ARN of a key by its id or alias."""

KMS_ACTIONS: Final = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey")
"""
Rights on a customer-managed key that Secrets Manager uses in our name (User Guide, encryption in Secrets Manager): it
checks access with GenerateDataKey and Decrypt when a key is set, and encrypts under a new key with Encrypt. So a role
that only writes needs Decrypt as well.
"""

COPY_ACTIONS: Final = ("kms:Encrypt",)
"""
Right on the key of a copy in another account. AWS uses it in the name of whoever writes the primary, unless a role
replicates (User Guide, how Secrets Manager authorizes cross-account replication). The primary is decrypted with its
own key, for which `KMS_ACTIONS` has kms:Decrypt.
"""


_READ_METADATA: Final = frozenset(
    f"secretsmanager:{operation}"
    for operation in ("DescribeSecret", "GetResourcePolicy", "TagResource", "UntagResource", "ValidateResourcePolicy")
)
_CREATE: Final = frozenset({"secretsmanager:CreateSecret"})
_READ_VALUE: Final = frozenset({"secretsmanager:GetSecretValue"})
_UPDATE: Final = "secretsmanager:UpdateSecret"
_CREATE_COPIES: Final = "secretsmanager:ReplicateSecretToRegions"
_RELEASE: Final = frozenset({"secretsmanager:DescribeSecret", "secretsmanager:UntagResource"})

_TAG_CONDITION_KEYS: Final = {"look": None, "read": None, "create": "aws:RequestTag", "change": "aws:ResourceTag"}
"""Kind of access -> the condition key for our tag (Service Authorization Reference, Secrets Manager)."""
_BEFORE_CREATION: Final = ("look", "create")
"""Kinds of access that also apply to a secret that does not exist yet."""
_LIKE_THE_END_OF_AN_ARN: Final = re.compile(r"-[A-Za-z0-9]{6}$|\*[A-Za-z0-9]{1,6}$|[-*][A-Za-z0-9]{0,6}\*+$")
"""Ends of names that, as patterns, also match the ARN of a secret with another name and its six characters."""
_SIDS: Final = {
    "look": "LookAtAndMark",
    "read": "ReadForImportAndVerify",
    "create": "CreateWithOurTag",
    "change": "ChangeWhereOurTagIs",
}


def starter_sync_policy(
    *,
    region: str | None,
    kms_key_arn: str | None = None,
    with_import: bool = False,
    sweep: bool = True,
    names: Sequence[str] = (),
) -> Document:
    """
    Return the starter policy: of a role that syncs write with, whatever their configuration.

    Args:
        region: the Region of the secrets; gives the partition too. None: every Region of the partition `aws`.
        kms_key_arn: the customer-managed key that encrypts them; None: the AWS-managed key, which needs no right.
        with_import: adds reading and listing, for an import.
        sweep: adds listing, in a statement of its own. Without it drift is found as well, with more calls.
        names: of the secrets that it may write; empty: every secret of the account in that Region.
    """
    anything = f"arn:{partition_of(region or '')}:secretsmanager:{region or '*'}:*:secret:*"
    secrets = [secret_arn(name, region=region or "*", account=None) for name in names] or [anything]
    statements = [allow("WriteSecrets", SYNC_ACTIONS, secrets)]
    if with_import:
        statements.append(allow("ReadSecretsForImport", IMPORT_ACTIONS, secrets))
    if kms_key_arn is not None:
        through = {"StringEquals": {"kms:ViaService": service_of(region or region_of_key(kms_key_arn))}}
        statements.append(allow("EncryptSecrets", KMS_ACTIONS, [kms_key_arn], through))
        statements.append(allow("FindKey", KEY_ACTIONS, [kms_key_arn]))
    if sweep or with_import:
        here = None if region is None else {"StringEquals": {"aws:RequestedRegion": region}}
        statements.append(allow("ListSecrets", LIST_ACTIONS, ["*"], here))
    return {"Version": VERSION, "Statement": statements}


@dataclass(frozen=True, kw_only=True)
class Grant:
    """
    What one sync needs at AWS.

    Attributes:
        secrets: ARN pattern of secrets -> the actions on them.
        keys: (Region, ARN of a customer-managed key) -> ARN patterns of the secrets that it may be used for.
        sweep: the Region in which it lists secrets; None if it does not list.
        copies: (Region, ARN of a key of another account) -> ARN patterns of copies and primaries.
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
        sync: its configuration decides.
        actions: of its destination kind.
        account: the 12-digit account it writes to; None if it is not known yet: any.
        journal: what it has written. Secrets under former names are still its own, to release or to delete.
        kms_key: ARN of a key that encrypts its secrets although the sync leaves the key alone.
        copy_keys: ARNs of keys of other accounts that encrypt copies of its secrets there; those of its Region count.
        with_import: also reading values, for an import and for `syncs verify`.
        sweep: also listing secrets.
    """
    config = sync.config
    pattern = name_of_key(config, app=sync.app, environment=sync.environment, path=sync.path, key="*")
    primary = secret_arn(pattern, region=sync.region, account=account)
    named_keys = [(sync.region, config.kms_key), (sync.region, kms_key), *(config.replicas or {}).items()]
    return Grant(
        secrets={primary: _needed_actions(sync.config, actions, with_import=with_import)}
        | _former_secrets(sync, actions, journal, account=account, pattern=pattern),
        # A copy has the ARN of its primary in another Region. A call for it may be about either.
        keys={
            (region, key): frozenset([primary, secret_arn(pattern, region=region, account=account)])
            for region, key in named_keys
            if key is not None and key != AWS_MANAGED_KEY
        },
        sweep=sync.region if sweep else None,
        # The copy may have any name: its account chose it. AWS does not say which of the two the call is about.
        copies={
            (sync.region, key): frozenset([secret_arn("*", region=sync.region, account=account_of(key)), primary])
            for key in copy_keys
            if key.split(":")[3] == sync.region
        },
    )


def _needed_actions(config: SyncConfig, actions: Actions, *, with_import: bool) -> frozenset[str]:
    """Return the actions on the secrets that a configuration names."""
    needed = set(actions["sync"])
    if config.description is None and config.kms_key is None:
        needed.discard(_UPDATE)
    if config.on_remove is OnRemove.DELETE:
        needed.update(actions["delete"])
    if config.replicas is not None:
        needed.update(actions["replicate"])
        if not config.replicas:
            needed.discard(_CREATE_COPIES)
    if config.resource_policy is not None:
        needed.update(actions["resource-policy"])
    if with_import:
        needed.update(actions["import"])
    return frozenset(needed)


def _former_secrets(
    sync: Sync, actions: Actions, journal: Iterable[JournalEntry], *, account: str | None, pattern: str
) -> dict[str, frozenset[str]]:
    """Return ARN -> actions for what a sync wrote under names or in Regions that it has no more."""
    secrets = {}
    for entry in journal:
        is_here = entry.region == sync.region
        is_current = is_here and fnmatchcase(entry.remote_name, pattern)
        if entry.account != account or not entry.written_before or is_current:
            continue
        deletes = is_here and sync.config.on_remove is OnRemove.DELETE
        arn = secret_arn(entry.remote_name, region=entry.region, account=account)
        secrets[arn] = _RELEASE | frozenset(actions["delete"] if deletes else ())
    return secrets


def policy_of_grants(grants: Sequence[Grant], *, instance_id: str, more: Sequence[Document] = ()) -> Document:
    """
    Return the policy for what some syncs need, merged.

    Args:
        grants: of the syncs.
        instance_id: our instance, as in our tags.
        more: further statements, for what else the same credential does.
    """
    statements: list[Document] = []
    for kind, sid in _SIDS.items():
        by_arn: dict[str, set[str]] = {}
        for grant in grants:
            for arn, needed in grant.secrets.items():
                for pattern in {arn, _arn_before_creation(arn)} if kind in _BEFORE_CREATION else {arn}:
                    by_arn.setdefault(pattern, set()).update(action for action in needed if _kind_of(action) == kind)
        key = _TAG_CONDITION_KEYS[kind]
        condition = None if key is None else {"StringEquals": {f"{key}/{TAG_INSTANCE}": instance_id}}
        for actions, arns in _group_by_actions(by_arn):
            statements.append(allow(sid, actions, arns, condition))
    statements += _key_statements(grants)
    regions = sorted({grant.sweep for grant in grants if grant.sweep is not None})
    if regions:
        # Without it every secret is described on its own, which finds the same with more calls.
        here = {"StringEquals": {"aws:RequestedRegion": regions}}
        statements.append(allow("OptionalSweepByListing", ["secretsmanager:ListSecrets"], ["*"], here))
    return numbered({"Version": VERSION, "Statement": [*statements, *more]})


def service_of(region: str) -> str:
    """Return the `kms:ViaService` of a call that Secrets Manager makes in a Region in our name."""
    return f"secretsmanager.{region}.{dns_suffix_of(region)}"


def secret_arn(pattern: str, *, region: str, account: str | None) -> str:
    """
    Return the ARN that matches the secrets of a name.

    Args:
        pattern: the name, with a star for unknown parts.
        region: gives the partition too.
        account: 12 digits; None: any.
    """
    # An ARN ends in six random characters. Six question marks match exactly those; a star would match longer names.
    return f"arn:{partition_of(region)}:secretsmanager:{region}:{account or '*'}:secret:{pattern}-??????"


def _arn_before_creation(arn: str) -> str:
    """
    Return the pattern for a secret that does not exist yet, and so does not end in six random characters.

    The guide says that the six question marks cover it (User Guide, identity-based policies); AWS's own refusals name
    such a secret without them. A pattern that ends like an ARN is returned as it is: without the question marks,
    `shop-*` and `shop-abc123` would be the secret `shop` as well.
    """
    bare = arn.removesuffix("-??????")
    return arn if _LIKE_THE_END_OF_AN_ARN.search(bare.partition(":secret:")[2]) else bare


def _kind_of(action: str) -> str:
    """Return the kind of access of an action. An unknown action may only change what is ours."""
    for kind, actions in (("look", _READ_METADATA), ("create", _CREATE), ("read", _READ_VALUE)):
        if action in actions:
            return kind
    return "change"


def _group_by_actions(by_arn: Mapping[str, set[str]]) -> list[tuple[list[str], list[str]]]:
    """Return (actions, ARNs), with the ARNs together that have the same actions."""
    by_actions: dict[tuple[str, ...], list[str]] = {}
    for arn, actions in sorted(by_arn.items()):
        if actions:
            by_actions.setdefault(tuple(sorted(actions)), []).append(arn)
    return [(list(actions), arns) for actions, arns in sorted(by_actions.items())]


def _key_statements(grants: Sequence[Grant]) -> list[Document]:
    """Return a statement for each key, and one for finding keys, which no service does in our name."""
    contexts = _merged(grant.keys for grant in grants)
    copies = _merged(grant.copies for grant in grants)
    statements = [_key_statement("EncryptThroughSecretsManager", KMS_ACTIONS, *key) for key in sorted(contexts.items())]
    statements += [_key_statement("EncryptCopiesInOtherAccounts", COPY_ACTIONS, *key) for key in sorted(copies.items())]
    if contexts:
        statements.append(allow("FindNamedKeys", KEY_ACTIONS, sorted({key for _, key in contexts})))
    return statements


def _merged(grants: Iterable[Mapping[tuple[str, str], frozenset[str]]]) -> dict[tuple[str, str], list[str]]:
    """Return (Region, key) -> ARNs of the secrets that it may be used for, over all grants."""
    merged: dict[tuple[str, str], set[str]] = {}
    for grant in grants:
        for place, arns in grant.items():
            merged.setdefault(place, set()).update(arns)
    return {place: sorted(arns) for place, arns in merged.items()}


def _key_statement(sid: str, actions: Sequence[str], place: tuple[str, str], secrets: list[str]) -> Document:
    """Return a statement for a key: used through Secrets Manager only, and for these secrets only."""
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
