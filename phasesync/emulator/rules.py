"""
Every rule that is stricter here than in moto, and where it was read.

"API reference" and "User Guide" are AWS's for Secrets Manager if no other service is named. "Public" means: seen in
a public report or in public code, not in AWS's own texts. The tests require for every rule one case that it
refuses (or changes) and one that it accepts.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule."""

    name: str
    module: str
    """The file of this package that enforces it."""
    adds: str
    """What it adds to moto."""
    source: str
    """Where it was read."""


_IAM_RULES: Final = (
    Rule(
        name="IAM's API model",
        module="api_model",
        adds="names (64), paths (512, a slash at both ends), tags (50; 128, 256), documents, ids: ValidationError",
        source="service model of IAM in botocore; text: public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="names of users",
        module="iam_users",
        adds="two users do not differ by case alone: EntityAlreadyExists",
        source="API reference, CreateUser, UserName; User Guide, quotas, name requirements",
    ),
    Rule(
        name="user quota",
        module="iam_users",
        adds="at most 5,000 users an account: LimitExceeded",
        source="User Guide, quotas; text: public, OpenShift's cloud-credential-operator",
    ),
    Rule(
        name="boundaries of users",
        module="iam_users",
        adds="kept and shown; put and deleted; a policy that does not exist is none: NoSuchEntity",
        source="API reference, CreateUser and PutUserPermissionsBoundary; text: public, reports on ROSA and SAM",
    ),
    Rule(
        name="lists of users",
        module="iam_users",
        adds="neither tags nor boundaries; GetUser has both",
        source="API reference, ListUsers",
    ),
    Rule(
        name="pages of IAM",
        module="iam_users",
        adds="MaxItems, 100 without it, fewer with `Limits.iam_page`; only markers that were given: ValidationError",
        source="API reference, ListUsers, MaxItems and Marker; text: public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="new names of users",
        module="iam_users",
        adds="UpdateUser takes tags, keys, boundary and credentials along; a taken name: EntityAlreadyExists",
        source="API reference, UpdateUser; public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="tags of users",
        module="iam_users",
        adds="no aws: prefix, no key twice in any case: InvalidInput; another case replaces a key",
        source="User Guide, tagging IAM resources; public, kops issue 11727 and aws-cdk issue 26253",
    ),
    Rule(
        name="tag quota of users",
        module="iam_users",
        adds="at most 50 tags a user: LimitExceeded",
        source="User Guide, quotas; API reference, TagUser",
    ),
    Rule(
        name="names in calls of IAM",
        module="iam_users",
        adds="users, groups and policies exist: NoSuchEntity, in AWS's words; ARNs are those of policies: InvalidInput",
        source="API reference, errors of each operation; public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="calls about the caller",
        module="iam_users",
        adds="without a user name they are about the user who calls; others are refused: ValidationError",
        source="API reference, GetUser and CreateAccessKey, UserName; text: public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="policies of AWS",
        module="moto_users",
        adds="they exist, without being loaded into every account",
        source="User Guide, AWS managed policies; moto's list of them",
    ),
    Rule(
        name="policy quota of users",
        module="iam_attachments",
        adds="at most 10 managed policies a user, one that is attached already counts once: LimitExceeded",
        source="User Guide, quotas; text: public, in many reports",
    ),
    Rule(
        name="group quota of users",
        module="iam_attachments",
        adds="a user is in at most 10 groups: LimitExceeded",
        source="User Guide, quotas",
    ),
    Rule(
        name="inline quota of users",
        module="iam_attachments",
        adds="at most 2,048 characters of all inline policies together, without white space: LimitExceeded",
        source="User Guide, quotas; text: public, in many reports",
    ),
    Rule(
        name="detached twice",
        module="iam_attachments",
        adds="a missing policy: NoSuchEntity; a user who is not in the group: no error",
        source="API reference, DetachUserPolicy and DeleteUserPolicy; public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="key quota of users",
        module="iam_attachments",
        adds="at most 2 access keys a user, or as many as `Limits` says: LimitExceeded",
        source="User Guide, quotas; text: public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="ended keys",
        module="access",
        adds="a key that is deleted or inactive: UnrecognizedClientException, at STS and IAM InvalidClientTokenId",
        source="API reference, common errors, and UpdateAccessKey",
    ),
    Rule(
        name="new keys",
        module="access",
        adds="a key is refused as if it did not exist for `Timing.new_key_takes`",
        source="User Guide, troubleshooting (changes are not always immediately visible); public, aws-sdk-js issue 559",
    ),
    Rule(
        name="new users",
        module="iam_users",
        adds="a user is not found, by name, by key or in lists, for `Timing.new_user_takes`: NoSuchEntity",
        source="User Guide, troubleshooting (changes are not always immediately visible); public, many reports",
    ),
    Rule(
        name="owners of keys",
        module="iam_attachments",
        adds="GetAccessKeyLastUsed names the user by its present name; a missing key: AccessDenied",
        source="API reference, GetAccessKeyLastUsed; public, see `iam_attachments.py`",
    ),
    Rule(
        name="attachments of users",
        module="iam_attachments",
        adds="DeleteUser is refused with keys, groups, password, MFA, certificates, other credentials: DeleteConflict",
        source="API reference, DeleteUser; texts: public, see `iam_attachments.py`",
    ),
    Rule(
        name="groups, policies and devices in use",
        module="iam_attachments",
        adds="groups with members, policies and MFA devices in use are not deleted: DeleteConflict",
        source="API reference, DeleteGroup, DeletePolicy and DeleteVirtualMFADevice",
    ),
    Rule(
        name="service-specific credentials",
        module="iam_attachments",
        adds="made, listed, deleted; two a service and user: LimitExceeded; known services only: NoSuchEntity",
        source="API reference, CreateServiceSpecificCredential; public, LocalStack's provider",
    ),
    Rule(
        name="rights on users",
        module="access",
        adds="are asked by ARN, path included; CreateUser with tags needs iam:TagUser too: AccessDenied",
        source="Service Authorization Reference, IAM; text: public, hashicorp/boundary pull request 3877",
    ),
)
"""All rules of IAM users."""

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="API model",
        module="api_model",
        adds="lengths, ranges, patterns, words and list sizes of all parameters: ValidationException "
        "(tokens 32-64, descriptions 2,048, MaxResults 100 and 20, 10 filters, policies 20,480)",
        source="service model in botocore; text: public, cluster-api-provider-aws issue 1531",
    ),
    Rule(
        name="value size",
        module="secret_writes",
        adds="at most 65,536 bytes of UTF-8 or of binary: ValidationException",
        source="User Guide, quotas; API reference, PutSecretValue",
    ),
    Rule(
        name="value kinds",
        module="secret_writes",
        adds="text or binary, not both: InvalidParameterException",
        source="API reference, PutSecretValue, SecretBinary and SecretString",
    ),
    Rule(
        name="names",
        module="secret_writes",
        adds="letters, digits and /_+=.@-: ValidationException",
        source="API reference, CreateSecret, Name; code and text: public, LocalStack's provider",
    ),
    Rule(
        name="tag count",
        module="secret_writes",
        adds="at most 50 tags a secret: InvalidParameterException",
        source="General Reference, tag naming limits (API reference, CreateSecret, Tags)",
    ),
    Rule(
        name="tag form",
        module="secret_writes",
        adds="no aws: prefix, only allowed characters: InvalidParameterException",
        source="General Reference, tag naming limits; API reference, Tag",
    ),
    Rule(
        name="descriptions",
        module="secret_writes",
        adds="UpdateSecret with an empty description clears it; without one it stays",
        source="API reference, UpdateSecret, Description",
    ),
    Rule(
        name="tokens of writes",
        module="secret_writes",
        adds="the same write again answers with its own version and that version's labels; create too",
        source="API reference, CreateSecret and PutSecretValue, ClientRequestToken",
    ),
    Rule(
        name="tokens of UpdateSecret",
        module="secret_writes",
        adds="a known token is refused, the same value or not: ResourceExistsException",
        source="API reference, UpdateSecret",
    ),
    Rule(
        name="labels",
        module="secret_writes",
        adds="labels of the former version stay, readers follow a moved label, RemoveFromVersionId must match",
        source="API reference, UpdateSecretVersionStage; User Guide, versions",
    ),
    Rule(
        name="label quota",
        module="secret_writes",
        adds="at most 20 labels over all versions: LimitExceededException",
        source="User Guide, quotas",
    ),
    Rule(
        name="version quota",
        module="secret_writes",
        adds="at most 100 versions; those without label and older than a day make room: LimitExceededException",
        source="User Guide, quotas; API reference, PutSecretValue",
    ),
    Rule(
        name="secret quota",
        module="secret_writes",
        adds="at most 500,000 secrets an account and Region: LimitExceededException",
        source="User Guide, quotas",
    ),
    Rule(
        name="recovery window",
        module="secret_deletion",
        adds="7 to 30 days, not together with force: InvalidParameterException",
        source="API reference, DeleteSecret, RecoveryWindowInDays",
    ),
    Rule(
        name="scheduled deletion",
        module="context",
        adds="every write, read of a value and policy call is refused: InvalidRequestException",
        source="API reference, InvalidRequestException; public, floci pull request 2514",
    ),
    Rule(
        name="name of a scheduled deletion",
        module="secret_deletion",
        adds="create is refused: InvalidRequestException (moto: ResourceExistsException)",
        source="public, LocalStack's snapshots of AWS, copilot-cli issue 655",
    ),
    Rule(
        name="end of a scheduled deletion",
        module="moto_state",
        adds="the secret is gone when the window has passed, by the emulator's clock",
        source="API reference, DeleteSecret",
    ),
    Rule(
        name="late deletion without recovery",
        module="secret_deletion",
        adds="the name stays taken for `Timing.force_delete_takes`; no restore",
        source="API reference, DeleteSecret, ForceDeleteWithoutRecovery",
    ),
    Rule(
        name="replicas before deletion",
        module="secret_deletion",
        adds="a primary with replicas is not deleted, forced or not: InvalidParameterException",
        source="API reference, DeleteSecret; text: public, aws-nuke issue 1127",
    ),
    Rule(
        name="list lag",
        module="secret_reads",
        adds="ListSecrets and filters show what was so `Timing.list_lag` ago",
        source="API reference, ListSecrets",
    ),
    Rule(
        name="sorted lists",
        module="secret_reads",
        adds="SortBy and SortOrder, by the dates that the list shows; `Timing.dates_every` makes ties",
        source="API reference, ListSecrets, SortBy and SortOrder (values: service model since botocore 1.42.8)",
    ),
    Rule(
        name="scheduled deletions in lists",
        module="secret_reads",
        adds="only with IncludePlannedDeletion",
        source="API reference, ListSecrets, IncludePlannedDeletion",
    ),
    Rule(
        name="pages",
        module="secret_reads",
        adds="only tokens that were given: InvalidNextTokenException",
        source="API reference, ListSecrets, InvalidNextTokenException",
    ),
    Rule(
        name="filters",
        module="secret_reads",
        adds="prefixes by case, words without; `!` excludes what has any such text",
        source="API reference, Filter; User Guide, finding secrets",
    ),
    Rule(
        name="batches",
        module="secret_reads",
        adds="20 secrets, a list or filters, failures one by one",
        source="API reference, BatchGetSecretValue",
    ),
    Rule(
        name="request rates",
        module="context",
        adds="token buckets per account, Region and group of operations: ThrottlingException",
        source="User Guide, quotas",
    ),
    Rule(
        name="usage of keys",
        module="kms",
        adds="a key that names no usage is for encryption; one that is not symmetric has to name it: "
        "ValidationException",
        source="API reference of KMS, CreateKey, KeyUsage",
    ),
    Rule(
        name="invalid keys",
        module="kms",
        adds="unknown, of another Region, asymmetric or HMAC: InvalidParameterException",
        source="User Guide, encryption and troubleshooting; code and text: public, terraform-provider-aws PR 13303",
    ),
    Rule(
        name="state of keys",
        module="kms",
        adds="disabled or pending deletion: EncryptionFailure, DecryptionFailure",
        source="API reference, EncryptionFailure and DecryptionFailure",
    ),
    Rule(
        name="use of keys",
        module="kms",
        adds="KMS itself uses no key that is disabled (DisabledException) or pending deletion "
        "(KMSInvalidStateException), and takes the ARN of a key everywhere",
        source="KMS Developer Guide, key states; API reference of KMS, Decrypt and DisableKey",
    ),
    Rule(
        name="rights on keys",
        module="kms",
        adds="kms actions in the caller's name: AccessDeniedException, Access to KMS is not allowed",
        source="User Guide, encryption (permissions for the KMS key) and rotation troubleshooting",
    ),
    Rule(
        name="encrypted again",
        module="kms",
        adds="another key opens the versions with AWS's three labels, if the caller's rights allow it; the old "
        "key still does",
        source="User Guide, change the encryption key; API reference, UpdateSecret, KmsKeyId",
    ),
    Rule(
        name="the AWS-managed key is not shown",
        module="kms",
        adds="KmsKeyId is absent; an empty KmsKeyId goes back to it",
        source="API reference, DescribeSecret and UpdateSecret, KmsKeyId",
    ),
    Rule(
        name="rights",
        module="access",
        adds="any IAM action may be denied, in AWS's words: AccessDeniedException",
        source="IAM User Guide, access denied error messages",
    ),
    Rule(
        name="further rights",
        module="access",
        adds="tags and replicas at creation, filters and each secret of a batch need rights of their own",
        source="API reference, CreateSecret and BatchGetSecretValue, required permissions",
    ),
    Rule(
        name="end of sessions",
        module="access",
        adds="sessions of roles end by the emulator's clock: ExpiredTokenException, at STS and IAM ExpiredToken",
        source="API reference, common errors; API reference of STS, AssumeRole, DurationSeconds",
    ),
    Rule(
        name="External ID",
        module="access",
        adds="a trust policy that asks for one refuses a caller without it: AccessDenied",
        source="IAM User Guide, access by third parties",
    ),
    Rule(
        name="role chaining",
        module="access",
        adds="a session that a role's session begins lasts an hour at most: ValidationError",
        source="API reference of STS, AssumeRole, DurationSeconds",
    ),
    Rule(
        name="owned secrets",
        module="secret_deletion",
        adds="secrets of AWS services are not written or deleted: InvalidRequestException",
        source="User Guide, secrets managed by other services; API reference, InvalidRequestException",
    ),
    Rule(
        name="rotation",
        module="secret_rotation",
        adds="needs a function, one at a time: InvalidRequestException",
        source="API reference, RotateSecret and InvalidRequestException",
    ),
    Rule(
        name="abandoned rotation",
        module="secret_writes",
        adds="a new current version takes AWSPENDING away",
        source="User Guide, CloudTrail entries, RotationAbandoned",
    ),
    Rule(
        name="replicas are read-only",
        module="context",
        adds="every write but that of its key: InvalidParameterException",
        source="User Guide, promote a replica; text: public, cloud-nuke issue 435",
    ),
    Rule(
        name="replication takes time",
        module="secret_replication",
        adds="InProgress and unreadable for `Timing.replication_takes`, then InSync",
        source="API reference, DescribeSecret, ReplicationStatus",
    ),
    Rule(
        name="failed replicas",
        module="secret_replication",
        adds="name taken, key missing or not allowed: Failed, and the request succeeds",
        source="User Guide, replication troubleshooting; public, CloudFormation roadmap issue 1459",
    ),
    Rule(
        name="managed external secrets",
        module="secret_rotation",
        adds="Type is kept and shown; AWS rotates them with a role in place of a function, and others not: "
        "InvalidRequestException",
        source="API reference, CreateSecret, UpdateSecret, DescribeSecret, SecretListEntry, Type, and RotateSecret; "
        "User Guide, managed external secrets",
    ),
    Rule(
        name="copies between accounts",
        module="secret_replication",
        adds="made with a customer-managed key and nothing else, of another account in the same Region: "
        "InvalidParameterException; associated by the primary's account alone, one at most: InvalidRequestException, "
        "LimitExceededException",
        source="API reference, CreateSecret, CrossAccountPrimaryARN, and AssociateCrossAccountReplica; which case has "
        "which code is not said",
    ),
    Rule(
        name="values of copies between accounts",
        module="secret_replication",
        adds="follow the primary, and are not written by others: InvalidParameterException; the rest is their own",
        source="User Guide, replicate secrets across accounts; the code is that of replicas in other Regions",
    ),
    Rule(
        name="rights to replicate between accounts",
        module="secret_replication",
        adds="kms:Decrypt and kms:Encrypt of the role or of whoever writes; without them the write succeeds, and the "
        "state is Failed",
        source="User Guide, how Secrets Manager authorizes cross-account replication",
    ),
    Rule(
        name="copies between accounts before deletion",
        module="secret_replication",
        adds="neither end is deleted before its own account has ended the replication: InvalidRequestException",
        source="API reference, DeleteSecret and DisassociateCrossAccountReplica; User Guide, stop cross-account "
        "replication; the code is not said",
    ),
    Rule(
        name="named policies",
        module="secret_policies",
        adds="only `default` is changed: InvalidParameterException; a copy between accounts has "
        "`cross-account-replication` as well, until its replication is stopped",
        source="API reference, ListResourcePolicies and GetResourcePolicy, PolicyName; User Guide, permissions for "
        "cross-account replication; the code is not said",
    ),
    Rule(
        name="form of policies",
        module="secret_policies",
        adds="JSON with proper statements: MalformedPolicyDocumentException; ValidateResourcePolicy exists",
        source="API reference, PutResourcePolicy and ValidateResourcePolicy",
    ),
    Rule(
        name="public policies",
        module="secret_policies",
        adds="refused with BlockPublicPolicy: PublicPolicyException",
        source="API reference, PutResourcePolicy, BlockPublicPolicy",
    ),
    *_IAM_RULES,
)
"""All rules."""
