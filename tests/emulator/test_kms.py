"""Which keys a secret takes, and what happens when a key or the right to use it goes."""

from __future__ import annotations

from typing import Any

import pytest

from phasesync.emulator import AwsEmulator
from tests.emulator.conftest import ACCOUNT, OTHER_REGION, REGION, Boto, code_of, passes, refuses, text_of

INVALID = "InvalidParameterException"
DENIED = "AccessDeniedException"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def key(aws: AwsEmulator) -> str:
    return aws.outside.create_key()


def told_key(sm: Any) -> str | None:
    key: str | None = sm.describe_secret(SecretId="shop").get("KmsKeyId")
    return key


def value(sm: Any, label: str = "AWSCURRENT") -> str:
    return str(sm.get_secret_value(SecretId="shop", VersionStage=label)["SecretString"])


@passes("invalid keys")
def test_takes_a_key_by_id_arn_and_alias_and_tells_it(aws: AwsEmulator, key: str, sm: Any, boto: Boto):
    key_id = key.rpartition("/")[2]
    boto("kms").create_alias(AliasName="alias/shop", TargetKeyId=key_id)
    alias = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/shop"
    for given, told in [(key, key), (key_id, key_id), ("alias/shop", alias), (alias, alias)]:
        sm.create_secret(Name="shop", SecretString="one", KmsKeyId=given)
        assert told_key(sm) == told
        assert value(sm) == "one"
        aws.outside.delete("shop", recovery_days=None)


@refuses("invalid keys")
@pytest.mark.parametrize(
    "given",
    [
        KEY_ID,
        f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY_ID}",
        "alias/never-was",
        f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/never-was",
        "arn:aws:s3:::bucket",
        "never was",
    ],
)
def test_refuses_a_key_that_is_not_there(aws: AwsEmulator, sm: Any, given: str):
    assert code_of(lambda: sm.create_secret(Name="shop", SecretString="one", KmsKeyId=given)) == INVALID
    assert aws.outside.names() == []


@refuses("invalid keys")
def test_refuses_a_key_of_another_region(aws: AwsEmulator, sm: Any):
    key = aws.outside.at(region=OTHER_REGION).create_key()
    aws.outside.create("shop")
    assert f"Invalid arn {OTHER_REGION}" in text_of(lambda: sm.update_secret(SecretId="shop", KmsKeyId=key))
    assert told_key(sm) is None


@refuses("invalid keys")
@pytest.mark.parametrize(
    ("spec", "usage"),
    [("RSA_2048", "ENCRYPT_DECRYPT"), ("HMAC_256", "GENERATE_VERIFY_MAC"), ("RSA_2048", "SIGN_VERIFY")],
)
def test_refuses_a_key_that_is_not_symmetric(aws: AwsEmulator, sm: Any, spec: str, usage: str):
    key = aws.outside.create_key(spec=spec, usage=usage)
    assert code_of(lambda: sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)) == INVALID


@passes("usage of keys")
@pytest.mark.parametrize(
    "given", [{}, {"KeySpec": "SYMMETRIC_DEFAULT"}, {"CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"}]
)
def test_a_key_that_names_no_usage_is_for_encryption(boto: Boto, sm: Any, given: dict[str, str]):
    made = boto("kms").create_key(**given)["KeyMetadata"]
    told = boto("kms").describe_key(KeyId=made["KeyId"])["KeyMetadata"]
    assert made["KeyUsage"] == told["KeyUsage"] == "ENCRYPT_DECRYPT"
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=made["Arn"])
    assert value(sm) == "one"


@refuses("usage of keys")
@pytest.mark.parametrize("spec", ["RSA_2048", "HMAC_256", "ECC_NIST_P256"])
def test_a_key_that_is_not_symmetric_has_to_name_its_usage(boto: Boto, spec: str):
    assert code_of(lambda: boto("kms").create_key(KeySpec=spec)) == "ValidationException"
    assert boto("kms").list_keys()["Keys"] == []


@passes("invalid keys")
def test_takes_a_key_of_a_chosen_id(aws: AwsEmulator, sm: Any):
    key = aws.outside.create_key(KEY_ID)
    assert key.endswith(KEY_ID)
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=KEY_ID)


@passes("the AWS-managed key is not shown")
@pytest.mark.parametrize(
    "given", ["alias/aws/secretsmanager", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/secretsmanager"]
)
def test_the_aws_managed_key_is_taken_and_not_told(sm: Any, given: str):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=given)
    assert told_key(sm) is None


@refuses("the AWS-managed key is not shown")
def test_an_empty_key_goes_back_to_the_aws_managed_one(key: str, sm: Any):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    sm.update_secret(SecretId="shop", KmsKeyId="")
    assert told_key(sm) is None


@refuses("state of keys")
@pytest.mark.parametrize("how", ["disable_key", "schedule_key_deletion"])
def test_refuses_to_encrypt_and_decrypt_with_a_key_that_is_not_usable(key: str, sm: Any, boto: Boto, how: str):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    getattr(boto("kms"), how)(KeyId=key.rpartition("/")[2])
    assert code_of(lambda: sm.put_secret_value(SecretId="shop", SecretString="two")) == "EncryptionFailure"
    assert code_of(lambda: value(sm)) == "DecryptionFailure"
    assert code_of(lambda: sm.create_secret(Name="more", SecretString="one", KmsKeyId=key)) == "EncryptionFailure"
    assert told_key(sm) == key


@passes("state of keys")
def test_a_key_that_is_enabled_again_works_again(key: str, sm: Any, boto: Boto):
    key_id = key.rpartition("/")[2]
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    boto("kms").disable_key(KeyId=key_id)
    boto("kms").enable_key(KeyId=key_id)
    sm.put_secret_value(SecretId="shop", SecretString="two")
    assert value(sm) == "two"


@refuses("rights on keys")
@pytest.mark.parametrize("action", ["kms:GenerateDataKey", "kms:Decrypt", "kms:*"])
def test_refuses_to_set_a_key_without_the_rights_on_it(aws: AwsEmulator, key: str, sm: Any, action: str):
    aws.deny(action)
    create = {"Name": "shop", "SecretString": "one", "KmsKeyId": key}
    assert code_of(lambda: sm.create_secret(**create)) == DENIED
    assert text_of(lambda: sm.create_secret(**create)) == "Access to KMS is not allowed"


@refuses("rights on keys")
def test_refuses_to_read_without_decrypt_and_to_write_without_a_data_key(aws: AwsEmulator, key: str, sm: Any):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key, ClientRequestToken="a" * 32)
    decrypt = aws.deny("kms:Decrypt", resource=key)
    assert code_of(lambda: value(sm)) == DENIED
    repeat = {"SecretId": "shop", "SecretString": "one", "ClientRequestToken": "a" * 32}
    assert code_of(lambda: sm.put_secret_value(**repeat)) == DENIED  # the repeat is compared with what is there
    sm.put_secret_value(SecretId="shop", SecretString="two")
    aws.access.allow(decrypt)
    aws.deny("kms:GenerateDataKey")
    assert code_of(lambda: sm.put_secret_value(SecretId="shop", SecretString="three")) == DENIED
    assert value(sm) == "two"


@passes("rights on keys")
def test_the_aws_managed_key_needs_no_rights_unless_they_are_denied_on_purpose(aws: AwsEmulator, sm: Any):
    aws.deny("kms:*")
    sm.create_secret(Name="shop", SecretString="one")
    assert value(sm) == "one"
    aws.deny("kms:Decrypt", explicit=True)
    assert code_of(lambda: value(sm)) == DENIED


@passes("encrypted again")
def test_a_new_key_opens_the_labelled_versions_and_so_does_the_old_one(aws: AwsEmulator, key: str, sm: Any):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    sm.put_secret_value(SecretId="shop", SecretString="two")
    new = aws.outside.create_key()
    sm.update_secret(SecretId="shop", KmsKeyId=new)
    for lost in (key, new):
        denial = aws.deny("kms:Decrypt", resource=lost)
        assert (value(sm), value(sm, "AWSPREVIOUS")) == ("two", "one")
        aws.access.allow(denial)


@refuses("encrypted again")
@pytest.mark.parametrize(("action", "which"), [("kms:Encrypt", "new"), ("kms:Decrypt", "old")])
def test_without_the_rights_nothing_is_encrypted_again_and_nothing_is_said(
    aws: AwsEmulator, key: str, sm: Any, action: str, which: str
):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    new = aws.outside.create_key()
    denial = aws.deny(action, resource=new if which == "new" else key)
    sm.update_secret(SecretId="shop", KmsKeyId=new)
    aws.access.allow(denial)
    assert told_key(sm) == new
    aws.deny("kms:Decrypt", resource=key)
    assert code_of(lambda: value(sm)) == DENIED


@refuses("encrypted again")
def test_versions_with_other_labels_keep_only_the_old_key(aws: AwsEmulator, key: str, sm: Any):
    sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key)
    sm.put_secret_value(SecretId="shop", SecretString="blue", VersionStages=["blue"])
    sm.update_secret(SecretId="shop", KmsKeyId=aws.outside.create_key())
    aws.deny("kms:Decrypt", resource=key)
    assert value(sm) == "one"
    assert code_of(lambda: value(sm, "blue")) == DENIED


def test_tells_what_was_asked_of_kms(aws: AwsEmulator, key: str, sm: Any):
    arn = sm.create_secret(Name="shop", SecretString="one", KmsKeyId=key, ClientRequestToken="a" * 32)["ARN"]
    assert [(use.action, use.secret_arn, use.version_id) for use in aws.keys.uses] == [
        ("kms:GenerateDataKey", None, "RequestToValidateKeyAccess"),
        ("kms:Decrypt", None, "RequestToValidateKeyAccess"),
        ("kms:GenerateDataKey", arn, "a" * 32),
    ]


# --- KMS itself


@refuses("use of keys")
@pytest.mark.parametrize("named", [True, False], ids=["named", "by the ciphertext alone"])
@pytest.mark.parametrize("by_arn", [True, False], ids=["arn", "id"])
def test_a_key_that_is_disabled_or_about_to_be_deleted_is_not_used(key: str, boto: Boto, by_arn: bool, named: bool):
    kms, name = boto("kms"), key if by_arn else key.rpartition("/")[2]
    blob = kms.generate_data_key(KeyId=name, KeySpec="AES_256")["CiphertextBlob"]
    which = {"KeyId": name} if named else {}

    kms.disable_key(KeyId=name)
    assert code_of(lambda: kms.decrypt(CiphertextBlob=blob, **which)) == "DisabledException"
    assert code_of(lambda: kms.generate_data_key(KeyId=name, KeySpec="AES_256")) == "DisabledException"
    kms.schedule_key_deletion(KeyId=name)
    assert code_of(lambda: kms.decrypt(CiphertextBlob=blob, **which)) == "KMSInvalidStateException"


@passes("use of keys")
def test_a_key_that_was_enabled_again_is_used(key: str, boto: Boto):
    kms = boto("kms")
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    kms.schedule_key_deletion(KeyId=key)
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId=key)
    assert (opened["Plaintext"], opened["KeyId"]) == (made["Plaintext"], key)
