"""
What is stricter here than in moto, rule by rule, and where each was read.

"API reference" and "User Guide" are AWS's for Secrets Manager where no other service is named. "Public" means: seen in
somebody's public report or code, and not in AWS's own texts. The tests ask of every rule one case that it refuses (or
changes) and one that it lets pass. Rules of IAM users are in `iam_rules.py`.
"""

from typing import Final

from phasesync.testing.aws_shim.iam_rules import IAM_RULES
from phasesync.testing.aws_shim.rule import Rule

__all__ = ["RULES", "Rule"]

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="API model",
        module="shapes",
        adds="lengths, ranges, patterns, words and list sizes of all parameters: ValidationException "
        "(tokens 32-64, descriptions 2,048, MaxResults 100 and 20, 10 filters, policies 20,480)",
        source="service model in botocore; text: public, cluster-api-provider-aws issue 1531",
    ),
    Rule(
        name="value size",
        module="values",
        adds="at most 65,536 bytes of UTF-8 or of binary: ValidationException",
        source="User Guide, quotas; API reference, PutSecretValue",
    ),
    Rule(
        name="value kinds",
        module="values",
        adds="text or binary, not both: InvalidParameterException",
        source="API reference, PutSecretValue, SecretBinary and SecretString",
    ),
    Rule(
        name="names",
        module="names",
        adds="letters, digits and /_+=.@-: ValidationException",
        source="API reference, CreateSecret, Name; code and text: public, LocalStack's provider",
    ),
    Rule(
        name="tag count",
        module="tags",
        adds="at most 50 tags a secret: InvalidParameterException",
        source="General Reference, tag naming limits (API reference, CreateSecret, Tags)",
    ),
    Rule(
        name="tag form",
        module="tags",
        adds="no aws: prefix, only allowed characters: InvalidParameterException",
        source="General Reference, tag naming limits; API reference, Tag",
    ),
    Rule(
        name="descriptions",
        module="writing",
        adds="UpdateSecret with an empty description clears it; without one it stays",
        source="API reference, UpdateSecret, Description",
    ),
    Rule(
        name="tokens of writes",
        module="tokens",
        adds="the same write again answers with its own version and that version's labels; create too",
        source="API reference, CreateSecret and PutSecretValue, ClientRequestToken",
    ),
    Rule(
        name="tokens of UpdateSecret",
        module="tokens",
        adds="a known token is refused, the same value or not: ResourceExistsException",
        source="API reference, UpdateSecret",
    ),
    Rule(
        name="labels",
        module="labels",
        adds="labels of the former version stay, readers follow a moved label, RemoveFromVersionId must match",
        source="API reference, UpdateSecretVersionStage; User Guide, versions",
    ),
    Rule(
        name="label quota",
        module="labels",
        adds="at most 20 labels over all versions: LimitExceededException",
        source="User Guide, quotas",
    ),
    Rule(
        name="version quota",
        module="versions",
        adds="at most 100 versions; those without label and older than a day make room: LimitExceededException",
        source="User Guide, quotas; API reference, PutSecretValue",
    ),
    Rule(
        name="secret quota",
        module="writing",
        adds="at most 500,000 secrets an account and Region: LimitExceededException",
        source="User Guide, quotas",
    ),
    Rule(
        name="recovery window",
        module="deletion",
        adds="7 to 30 days, not together with force: InvalidParameterException",
        source="API reference, DeleteSecret, RecoveryWindowInDays",
    ),
    Rule(
        name="scheduled deletion",
        module="service",
        adds="every write, read of a value and policy call is refused: InvalidRequestException",
        source="API reference, InvalidRequestException; public, floci pull request 2514",
    ),
    Rule(
        name="name of a scheduled deletion",
        module="deletion",
        adds="create is refused: InvalidRequestException (moto: ResourceExistsException)",
        source="public, LocalStack's snapshots of AWS, copilot-cli issue 655",
    ),
    Rule(
        name="end of a scheduled deletion",
        module="moto_world",
        adds="the secret is gone when the window has passed, by the shim's clock",
        source="API reference, DeleteSecret",
    ),
    Rule(
        name="late deletion without recovery",
        module="deletion",
        adds="the name stays taken for `Timing.force_delete_takes`; no restore",
        source="API reference, DeleteSecret, ForceDeleteWithoutRecovery",
    ),
    Rule(
        name="replicas before deletion",
        module="deletion",
        adds="a primary with replicas is not deleted, forced or not: InvalidParameterException",
        source="API reference, DeleteSecret; text: public, aws-nuke issue 1127",
    ),
    Rule(
        name="list lag",
        module="listing",
        adds="ListSecrets and filters show what was so `Timing.list_lag` ago",
        source="API reference, ListSecrets",
    ),
    Rule(
        name="scheduled deletions in lists",
        module="listing",
        adds="only with IncludePlannedDeletion",
        source="API reference, ListSecrets, IncludePlannedDeletion",
    ),
    Rule(
        name="pages",
        module="paging",
        adds="only tokens that were given: InvalidNextTokenException",
        source="API reference, ListSecrets, InvalidNextTokenException",
    ),
    Rule(
        name="filters",
        module="listing",
        adds="prefixes by case, words without; `!` excludes what has any such text",
        source="API reference, Filter; User Guide, finding secrets",
    ),
    Rule(
        name="batches",
        module="listing",
        adds="20 secrets, a list or filters, failures one by one",
        source="API reference, BatchGetSecretValue",
    ),
    Rule(
        name="request rates",
        module="throttling",
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
        name="rights on keys",
        module="kms",
        adds="kms actions in the caller's name: AccessDeniedException, Access to KMS is not allowed",
        source="User Guide, encryption (permissions for the KMS key) and rotation troubleshooting",
    ),
    Rule(
        name="encrypted again",
        module="kms",
        adds="another key opens the versions with AWS's three labels, where the caller's rights allow it; the old "
        "key still does",
        source="User Guide, change the encryption key; API reference, UpdateSecret, KmsKeyId",
    ),
    Rule(
        name="the AWS-managed key is not told",
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
        module="trust",
        adds="sessions of roles end by the shim's clock: ExpiredTokenException, at STS and IAM ExpiredToken",
        source="API reference, common errors; API reference of STS, AssumeRole, DurationSeconds",
    ),
    Rule(
        name="External ID",
        module="trust",
        adds="a role whose trust policy asks for one is not assumed without it: AccessDenied",
        source="IAM User Guide, access by third parties",
    ),
    Rule(
        name="role chaining",
        module="trust",
        adds="a session that a role's session begins lasts an hour at most: ValidationError",
        source="API reference of STS, AssumeRole, DurationSeconds",
    ),
    Rule(
        name="owned secrets",
        module="owning",
        adds="secrets of AWS services are not written or deleted: InvalidRequestException",
        source="User Guide, secrets managed by other services; API reference, InvalidRequestException",
    ),
    Rule(
        name="rotation",
        module="rotation",
        adds="needs a function, one at a time: InvalidRequestException",
        source="API reference, RotateSecret and InvalidRequestException",
    ),
    Rule(
        name="abandoned rotation",
        module="writing",
        adds="a new current version takes AWSPENDING away",
        source="User Guide, CloudTrail entries, RotationAbandoned",
    ),
    Rule(
        name="replicas are read-only",
        module="service",
        adds="every write but that of its key: InvalidParameterException",
        source="User Guide, promote a replica; text: public, cloud-nuke issue 435",
    ),
    Rule(
        name="replication takes time",
        module="replication",
        adds="InProgress and unreadable for `Timing.replication_takes`, then InSync",
        source="API reference, DescribeSecret, ReplicationStatus",
    ),
    Rule(
        name="failed replicas",
        module="replication",
        adds="name taken, key missing or not allowed: Failed, and the request succeeds",
        source="User Guide, replication troubleshooting; public, CloudFormation roadmap issue 1459",
    ),
    Rule(
        name="managed external secrets",
        module="rotation",
        adds="Type is kept and told; AWS rotates them with a role in place of a function, and others not: "
        "InvalidRequestException",
        source="API reference, CreateSecret, UpdateSecret, DescribeSecret, SecretListEntry, Type, and RotateSecret; "
        "User Guide, managed external secrets",
    ),
    Rule(
        name="copies between accounts",
        module="cross_account",
        adds="made with a customer-managed key and nothing else, of another account in the same Region: "
        "InvalidParameterException; associated by the primary's account alone, one at most: InvalidRequestException, "
        "LimitExceededException",
        source="API reference, CreateSecret, CrossAccountPrimaryARN, and AssociateCrossAccountReplica; which case has "
        "which code is not said",
    ),
    Rule(
        name="values of copies between accounts",
        module="cross_account",
        adds="follow the primary, and are not written by others: InvalidParameterException; the rest is their own",
        source="User Guide, replicate secrets across accounts; the code is that of replicas in other Regions",
    ),
    Rule(
        name="rights to replicate between accounts",
        module="cross_account",
        adds="kms:Decrypt and kms:Encrypt of the role or of whoever writes; without them the write succeeds, and the "
        "state is Failed",
        source="User Guide, how Secrets Manager authorizes cross-account replication",
    ),
    Rule(
        name="copies between accounts before deletion",
        module="cross_account",
        adds="neither end is deleted before its own account has ended the replication: InvalidRequestException",
        source="API reference, DeleteSecret and DisassociateCrossAccountReplica; User Guide, stop cross-account "
        "replication; the code is not said",
    ),
    Rule(
        name="named policies",
        module="policies",
        adds="only `default` is changed: InvalidParameterException; a copy between accounts has "
        "`cross-account-replication` as well, until its replication is stopped",
        source="API reference, ListResourcePolicies and GetResourcePolicy, PolicyName; User Guide, permissions for "
        "cross-account replication; the code is not said",
    ),
    Rule(
        name="form of policies",
        module="policies",
        adds="JSON with proper statements: MalformedPolicyDocumentException; ValidateResourcePolicy exists",
        source="API reference, PutResourcePolicy and ValidateResourcePolicy",
    ),
    Rule(
        name="public policies",
        module="policies",
        adds="refused with BlockPublicPolicy: PublicPolicyException",
        source="API reference, PutResourcePolicy, BlockPublicPolicy",
    ),
    *IAM_RULES,
)
"""All rules."""
