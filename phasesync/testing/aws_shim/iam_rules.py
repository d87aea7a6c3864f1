"""
What is stricter here than in moto about IAM users, and where each rule was read.

"API reference" and "User Guide" are AWS's for IAM. "Public" means: seen in somebody's public report or code, and not in
AWS's own texts; "snapshots of AWS" are those of LocalStack's tests, recorded from AWS.
"""

from typing import Final

from phasesync.testing.aws_shim.rule import Rule

IAM_RULES: Final = (
    Rule(
        name="IAM's API model",
        module="iam_shapes",
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
        adds="kept and told; put and deleted; a policy that does not exist is none: NoSuchEntity",
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
        module="iam_pages",
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
        module="iam_tags",
        adds="no aws: prefix, no key twice in any case: InvalidInput; another case replaces a key",
        source="User Guide, tagging IAM resources; public, kops issue 11727 and aws-cdk issue 26253",
    ),
    Rule(
        name="tag quota of users",
        module="iam_tags",
        adds="at most 50 tags a user: LimitExceeded",
        source="User Guide, quotas; API reference, TagUser",
    ),
    Rule(
        name="what calls of IAM name",
        module="iam_named",
        adds="users, groups and policies exist: NoSuchEntity, in AWS's words; ARNs are those of policies: InvalidInput",
        source="API reference, errors of each operation; public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="calls about the caller",
        module="iam_named",
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
        module="iam_grants",
        adds="at most 10 managed policies a user, one that is attached already counts once: LimitExceeded",
        source="User Guide, quotas; text: public, in many reports",
    ),
    Rule(
        name="group quota of users",
        module="iam_grants",
        adds="a user is in at most 10 groups: LimitExceeded",
        source="User Guide, quotas",
    ),
    Rule(
        name="inline quota of users",
        module="iam_grants",
        adds="at most 2,048 characters of all inline policies together, without white space: LimitExceeded",
        source="User Guide, quotas; text: public, in many reports",
    ),
    Rule(
        name="taken back twice",
        module="iam_grants",
        adds="a policy that is not there: NoSuchEntity; a user who is not in the group: no error",
        source="API reference, DetachUserPolicy and DeleteUserPolicy; public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="key quota of users",
        module="iam_keys",
        adds="at most 2 access keys a user, or as many as `Limits` says: LimitExceeded",
        source="User Guide, quotas; text: public, LocalStack's snapshots of AWS",
    ),
    Rule(
        name="ended keys",
        module="trust",
        adds="a key that is deleted or inactive: UnrecognizedClientException, at STS and IAM InvalidClientTokenId",
        source="API reference, common errors, and UpdateAccessKey",
    ),
    Rule(
        name="new keys",
        module="trust",
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
        module="iam_keys",
        adds="GetAccessKeyLastUsed tells the user by its name of now; a key that is not there: AccessDenied",
        source="API reference, GetAccessKeyLastUsed; public, see `iam_keys.py`",
    ),
    Rule(
        name="what hangs on users",
        module="iam_deletion",
        adds="DeleteUser needs it gone: keys, groups, password, MFA, certificates, other credentials: DeleteConflict",
        source="API reference, DeleteUser; texts: public, see `iam_deletion.py`",
    ),
    Rule(
        name="what users hang on",
        module="iam_deletion",
        adds="groups with members, policies and MFA devices in use are not deleted: DeleteConflict",
        source="API reference, DeleteGroup, DeletePolicy and DeleteVirtualMFADevice",
    ),
    Rule(
        name="service-specific credentials",
        module="iam_service_credentials",
        adds="made, listed, deleted; two a service and user: LimitExceeded; known services only: NoSuchEntity",
        source="API reference, CreateServiceSpecificCredential; public, LocalStack's provider",
    ),
    Rule(
        name="rights on users",
        module="rights",
        adds="are asked by ARN, path included; CreateUser with tags needs iam:TagUser too: AccessDenied",
        source="Service Authorization Reference, IAM; text: public, hashicorp/boundary pull request 3877",
    ),
)
"""All rules of IAM users."""
