"""
Lint: warnings about a sync that works, but breaks tools that read what it writes, and about secrets that look like key
material, which AWS advises to keep elsewhere (User Guide, what is Secrets Manager). Pure.

It raises nothing and forbids nothing. A warning names remote names and secret keys, never a value or a part of one (a
member of a JSON value is a part of it).
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from phasesync.core.model import SecretValue, ValueType
from phasesync.core.remote_names import name_of_key
from phasesync.core.sync import Layout, SyncConfig


def object_in(text: str) -> dict[str, Any] | None:
    """
    Return the JSON object in a text, as tools that read secrets parse it; None if the whole text is not a JSON object.

    It is lenient on purpose, unlike `canonical_json.py`: other tools accept more than phasesync writes.
    """
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


class KeyMaterial(StrEnum):
    """A kind of key material that AWS has another service for."""

    AWS_CREDENTIAL = "aws-credential"
    SSH_KEY = "ssh-key"
    CERTIFICATE = "certificate"
    """A private key or a certificate in PEM form."""
    ENCRYPTION_KEY = "encryption-key"


ADVICE: Final = {
    KeyMaterial.AWS_CREDENTIAL: (
        "looks like an AWS credential: whoever reads the secret can act as its owner until it is rotated. AWS "
        "advises IAM roles in place of stored keys"
    ),
    KeyMaterial.SSH_KEY: (
        "looks like an SSH private key: whoever reads the secret can log in until the key is taken off every host. AWS "
        "advises EC2 Instance Connect"
    ),
    KeyMaterial.CERTIFICATE: (
        "looks like a private key or a certificate: phasesync does not renew it before it expires. AWS advises AWS "
        "Certificate Manager"
    ),
    KeyMaterial.ENCRYPTION_KEY: (
        "looks like a raw encryption key: whoever reads the secret can decrypt for ever, and unseen. AWS advises AWS "
        "KMS, which does not give keys away"
    ),
}
"""The second half of a warning, after the name of the secret."""

_ACCESS_KEY_ID: Final = re.compile(r"(?<![A-Za-z0-9])(AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])")
"""Long-lived and temporary access keys (IAM User Guide, unique identifiers)."""
_AWS_NAMES: Final = ("AWSACCESSKEYID", "AWSSECRETACCESSKEY", "AWSSECRETKEY", "AWSSESSIONTOKEN", "AWSSECURITYTOKEN")
_SSH_NAME: Final = re.compile(r"(^|_)(SSH|ID_(RSA|DSA|ECDSA|ED25519))(_|$)")
_ENCRYPTION_NAME: Final = re.compile(
    r"(^|_)(((EN|DE)CRYPT(ION)?|CRYPTO|CIPHER|AES(_?(128|192|256))?|FERNET|MASTER|WRAPPING|DATA)_?KEY|KEK|DEK|CMK)(_|$)"
)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PUTTY: Final = "PuTTY-User-Key-File-"
_PEM_IN_BASE64: Final = "LS0tLS1CRUdJTi"
"""Base64 of the beginning of a PEM block."""
_HEX: Final = re.compile(r"([0-9A-Fa-f]{2})+")
_RAW_BYTES: Final = (16, 24, 32, 48, 64)
"""Lengths of raw symmetric keys, alone or together with a key for authentication."""
_LONGEST_NAME: Final = 1_000


def materials_in(key: str, value: SecretValue) -> frozenset[KeyMaterial]:
    """
    Return the kinds of key material that a secret, or a member of a JSON object in it, looks like.

    Args:
        key: name of the secret.
        value: its plaintext.
    """
    if value.type is ValueType.BINARY:
        raw = value.reveal()
        kinds = set(_of_text(key, raw.decode("latin-1")))
        if _means_encryption(key) and len(raw) in _RAW_BYTES:
            kinds.add(KeyMaterial.ENCRYPTION_KEY)
        return frozenset(kinds)
    text = value.reveal().decode("utf-8", "replace")
    return frozenset(kind for name, leaf in _leaves(key, text) for kind in _of_text(name, leaf))


def _leaves(key: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every text in a value: the value itself, or the members of the JSON object in it."""
    document = object_in(text)
    if document is None:
        yield key, text
        return
    waiting: list[tuple[str, Any]] = [(key, document)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, dict):
            # The end of the path is enough; whole paths would grow with the square of the depth.
            waiting += [(f"{name}_{member}"[-_LONGEST_NAME:], child) for member, child in node.items()]
        elif isinstance(node, list):
            waiting += [(name, child) for child in node]
        elif isinstance(node, str):
            yield name, node


def _of_text(key: str, text: str) -> Iterator[KeyMaterial]:
    name = _words(key)
    squeezed = name.replace("_", "")
    if _ACCESS_KEY_ID.search(text) or any(known in squeezed for known in _AWS_NAMES):
        yield KeyMaterial.AWS_CREDENTIAL
    if text.startswith(_PEM_IN_BASE64):
        text = _decoded_beginning(text)
    label = _PEM.search(text)
    if text.startswith(_PUTTY):
        yield KeyMaterial.SSH_KEY
    elif label is not None:
        block = label[1]
        private = block.endswith("PRIVATE KEY")
        if block.startswith("OPENSSH") or (private and _SSH_NAME.search(name)):
            yield KeyMaterial.SSH_KEY
        elif private or block.endswith("CERTIFICATE"):
            yield KeyMaterial.CERTIFICATE
    elif _means_encryption(key) and _is_raw_key(text.strip()):
        yield KeyMaterial.ENCRYPTION_KEY


def _words(key: str) -> str:
    """Return a name in upper case with underscores between its words: `aesKey` -> `AES_KEY`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return re.sub(r"[^A-Z0-9]+", "_", parted.upper())


def _means_encryption(key: str) -> bool:
    return _ENCRYPTION_NAME.search(_words(key)) is not None


def _is_raw_key(text: str) -> bool:
    """Return whether a text is a raw symmetric key in hex or base64."""
    if _HEX.fullmatch(text) and len(text) // 2 in _RAW_BYTES:
        return True
    try:
        decoded = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(decoded) in _RAW_BYTES


def _decoded_beginning(text: str) -> str:
    """Return the first bytes of base64 text, enough to see what kind of PEM block it is."""
    letters = re.sub(r"[^A-Za-z0-9+/]", "", text[:120])
    return base64.b64decode(letters[: len(letters) // 4 * 4]).decode("latin-1")


class LintCode(StrEnum):
    """Kind of a warning."""

    NAME_LIKE_ARN = "name-like-arn"
    NAME_OF_A_SERVICE = "name-of-a-service"
    GITHUB_NAME = "github-name"
    GITHUB_JSON_NAME = "github-json-name"
    CLOUDFORMATION_KEY = "cloudformation-key"
    EKS_FILE_NAME = "eks-file-name"
    EKS_JMESPATH = "eks-jmespath"
    KEY_CASE = "key-case"
    AWS_CREDENTIAL = "aws-credential"
    SSH_KEY = "ssh-key"
    CERTIFICATE = "certificate"
    ENCRYPTION_KEY = "encryption-key"


@dataclass(frozen=True, kw_only=True)
class LintWarning:
    """
    One warning.

    Attributes:
        subject: the remote names or secret keys that it is about, as text; long lists are shortened.
        text: one line for the operator: what breaks, and what to do.
    """

    code: LintCode
    subject: str
    text: str


def lint(
    config: SyncConfig,
    *,
    app: str,
    environment: str,
    path: str,
    secrets: Mapping[str, SecretValue],
    others: Iterable[str] = (),
) -> tuple[LintWarning, ...]:
    """
    Return what may break for the readers of a sync's objects, in the order of `LintCode`.

    Args:
        config: a checked configuration: its layout, and its name or template.
        app: name of the app.
        environment: name of the environment.
        path: the sync's folder.
        secrets: key -> value of that folder; resolved or as they were entered.
        others: remote names that other syncs write to in the same account and Region.
    """
    keys = sorted(secrets)
    whole = config.layout is Layout.JSON
    by_key = {key: name_of_key(config, app=app, environment=environment, path=path, key=key) for key in keys}
    names = [config.names] if whole else sorted(set(by_key.values()))
    foreign = sorted(set(others) - set(names))
    warnings = [*_lint_names(names), *_lint_github(names, foreign)]
    warnings += _lint_github_json(
        {names[0]: secrets} if whole else {by_key[key]: secrets[key] for key in keys}, foreign
    )
    warnings += _lint_files(names, foreign)
    if whole:
        warnings += _lint_json_keys(keys)
    warnings += _lint_case(keys)
    warnings += _lint_material(secrets)
    order = {code: position for position, code in enumerate(LintCode)}
    return tuple(sorted(warnings, key=lambda warning: (order[warning.code], warning.subject, warning.text)))


_LIKE_AN_ARN: Final = re.compile(r"-.{6}", re.DOTALL)
_PREFIXES: Final = {
    "AwsGlueDataBrew": "AWS Glue DataBrew",
    "redshiftqueryeditor": "the query editor of Amazon Redshift",
}
"""Name prefix -> service that makes such secrets without marking them (User Guide, secrets of other services)."""


def _lint_names(names: Sequence[str]) -> Iterable[LintWarning]:
    like_arn = [name for name in names if _LIKE_AN_ARN.fullmatch(name[-7:])]
    if like_arn:
        yield _warning(
            LintCode.NAME_LIKE_ARN,
            like_arn,
            "{} ends in a hyphen and six characters, like an ARN: who looks it up by a shortened ARN may not find it. "
            "Choose another name, or have readers use the plain name or the full ARN",
        )
    managed = [name for name in names if "!" in name]
    if managed:
        yield _warning(
            LintCode.NAME_OF_A_SERVICE,
            managed,
            "{} has a '!', which marks secrets that an AWS service manages: AWS refuses it. Choose another name",
        )
    for prefix, service in _PREFIXES.items():
        if matching := [name for name in names if name.lower().startswith(prefix.lower())]:
            yield _warning(
                LintCode.NAME_OF_A_SERVICE,
                matching,
                f"{{}} begins like the secrets that {service} makes for itself: people and IAM policies there "
                "will take it for one of those. Choose another beginning",
            )


_ALIAS: Final = "Give one of them an alias in the workflow's secret-ids (ALIAS,name), or another name here"


def _lint_github(names: Sequence[str], others: Sequence[str]) -> Iterable[LintWarning]:
    variables = _NameOwners()
    for name in others:
        variables.add(variable_name(name), f"{name} (of another sync)")
    ours = {variables.add(variable_name(name), name) for name in names}
    for variable, owners in variables.duplicates():
        if variable in ours:
            yield _warning(
                LintCode.GITHUB_NAME,
                owners,
                "{} become the same variable in the GitHub action aws-secretsmanager-get-secrets: a step that fetches "
                f"more than one of them fails. {_ALIAS}",
            )


def _lint_github_json(
    objects: Mapping[str, Mapping[str, SecretValue] | SecretValue], others: Sequence[str]
) -> Iterable[LintWarning]:
    members = _NameOwners()
    whole = {variable_name(name): f"{name} (of another sync)" for name in others}
    for name, content in objects.items():
        pairs = variables_of(name, content)
        if pairs is None:
            whole[variable_name(name)] = name
        for variable, owner in pairs or ():
            members.add(variable, owner)
    reported: set[tuple[str, ...]] = set()
    for _, owners in members.duplicates():
        subjects = tuple(sorted(set(owners)))
        clause = (
            "{} become, as such or with members of their JSON,"
            if len(subjects) > 1
            else "members of the JSON in {} become"
        )
        if subjects not in reported:
            reported.add(subjects)
            yield _warning(
                LintCode.GITHUB_JSON_NAME,
                subjects,
                f"{clause} the same variable in the GitHub action aws-secretsmanager-get-secrets with "
                "parse-json-secrets: the step fails. Rename one, or have the workflow parse the JSON itself",
            )
    for variable, owner in sorted(set(members.all())):
        if variable in whole:
            yield _warning(
                LintCode.GITHUB_JSON_NAME,
                [owner, whole[variable]],
                "{} become the same variable in the GitHub action aws-secretsmanager-get-secrets with "
                f"parse-json-secrets: a step that fetches both fails. {_ALIAS}",
            )


def _lint_files(names: Sequence[str], others: Sequence[str]) -> Iterable[LintWarning]:
    files = _NameOwners()
    for name in others:
        files.add(name.replace("/", "_"), f"{name} (of another sync)")
    ours = {files.add(name.replace("/", "_"), name) for name in names}
    for file, owners in files.duplicates():
        if file in ours:
            yield _warning(
                LintCode.EKS_FILE_NAME,
                owners,
                "{} become the same file in a pod, because the AWS provider of the Secrets Store CSI driver (EKS) "
                "writes / as _: one hides the other. Set objectAlias or pathTranslation there, or choose another name",
            )


_JMESPATH_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""An identifier that needs no quotes (JMESPath specification, grammar)."""


def _lint_json_keys(keys: Sequence[str]) -> Iterable[LintWarning]:
    if with_colon := [key for key in keys if ":" in key]:
        yield _warning(
            LintCode.CLOUDFORMATION_KEY,
            with_colon,
            "{} has a ':': a CloudFormation template cannot name it as the json-key of a dynamic reference. Rename it "
            "if a template has to read it",
        )
    if with_backslash := [key for key in keys if key.endswith("\\")]:
        yield _warning(
            LintCode.CLOUDFORMATION_KEY,
            with_backslash,
            "{} ends in a backslash: CloudFormation cannot resolve a dynamic reference that ends in one, and the stack "
            "fails. Rename it if a template has to read it",
        )
    if odd := [key for key in keys if not _JMESPATH_WORD.fullmatch(key)]:
        yield _warning(
            LintCode.EKS_JMESPATH,
            odd,
            "{} has to stand in double quotes within single quotes as the path of a jmesPath entry of the Secrets "
            "Store CSI driver (EKS), such as path: '\"a-key\"'; without them the pod does not start. Letters, digits "
            "and _ need none",
        )


def _lint_case(keys: Sequence[str]) -> Iterable[LintWarning]:
    folded = _NameOwners()
    for key in keys:
        folded.add(key.lower(), key)
    for _, owners in folded.duplicates():
        yield _warning(
            LintCode.KEY_CASE,
            owners,
            "{} differ in case only: whoever turns keys into environment variables in upper case, or reads them on "
            "Windows, gets one of them. Rename one",
        )


def _lint_material(secrets: Mapping[str, SecretValue]) -> Iterable[LintWarning]:
    kinds = {key: materials_in(key, secrets[key]) for key in sorted(secrets)}
    for kind in KeyMaterial:
        if keys := [key for key, materials in kinds.items() if kind in materials]:
            yield _warning(LintCode(kind), keys, f"{{}} {ADVICE[kind]}")


_SHOWN: Final = 5
_SHOWN_CHARACTERS: Final = 80


def _warning(code: LintCode, subjects: Sequence[str], text: str) -> LintWarning:
    """Make a warning; `{}` in its text is replaced by the subjects."""
    shown = [name if len(name) <= _SHOWN_CHARACTERS else f"{name[: _SHOWN_CHARACTERS - 3]}..." for name in subjects]
    subject = ", ".join(shown[:_SHOWN])
    if len(shown) > _SHOWN:
        subject += f" and {len(shown) - _SHOWN} more"
    return LintWarning(code=code, subject=subject, text=text.replace("{}", subject, 1))


# --- Environment variables that the GitHub action aws-secretsmanager-get-secrets (v2) makes of secrets.
#
# Sources: its functions `injectSecret` and `transformToValidEnvName`, and the User Guide, secrets in GitHub jobs. The
# step fails if two secrets make the same variable.

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_]")
_DEEPEST: Final = 100
"""Deeper members are not followed: no workflow reads them as variables."""


class _NameOwners:
    """Names with the secrets or keys that get them."""

    def __init__(self) -> None:
        self._owners: dict[str, list[str]] = {}

    def add(self, name: str, owner: str) -> str:
        """Record that an owner gets a name; return the name."""
        self._owners.setdefault(name, []).append(owner)
        return name

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield every (name, owner)."""
        return ((name, owner) for name, owners in self._owners.items() for owner in owners)

    def duplicates(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the names that more than one owner gets, with these owners."""
        return ((name, sorted(owners)) for name, owners in sorted(self._owners.items()) if len(owners) > 1)


def variable_name(text: str) -> str:
    """Return the variable for a name: in upper case, with _ for every character but ASCII letters, digits and _."""
    if text[:1] in set("0123456789"):
        text = f"_{text}"
    return _NOT_ALLOWED.sub("_", text).upper()


_variable_of_beginning = lru_cache(maxsize=65_536)(variable_name)
"""Names of AWS secrets only, which are no secrets: one sync is compared with all others."""


def may_meet(ours: str, theirs: str) -> bool:
    """
    Return whether remote names of two syncs may be the same, or become the same variable or file for a reader.

    Every variable and file of a secret begins with its name, so that most other syncs are ruled out without their keys.

    Args:
        ours: how all names of one sync begin; the name itself, if it has only one.
        theirs: the same of the other sync.
    """
    first, second = _variable_of_beginning(ours), _variable_of_beginning(theirs)
    return first.startswith(second) or second.startswith(first)


def variables_of(name: str, content: Mapping[str, SecretValue] | SecretValue) -> list[tuple[str, str]] | None:
    """
    Return (variable, owner) of a secret with parse-json-secrets; a variable that it makes twice is in two pairs.

    Args:
        name: the remote name.
        content: key -> value of its JSON object; or its one value, if phasesync writes no object.

    Returns:
        The owner is the key, or the remote name if there is no key: a member of a value is a part of the value. None if
        the value is no JSON object, so that the whole secret becomes `variable_name(name)`.
    """
    beginning = variable_name(name)
    if isinstance(content, SecretValue):
        members = object_in(_text_of(content))
        return None if members is None else [(variable, name) for variable in _expand(beginning, members)]
    return [
        (variable, key)
        for key, value in content.items()
        for variable in _expand(f"{beginning}_{variable_name(key)}", _text_of(value))
    ]


def _expand(beginning: str, value: Any) -> Iterator[str]:
    """Yield a variable for each leaf of nested JSON objects, and of texts that are JSON objects."""
    waiting: list[tuple[str, Any, int]] = [(beginning, value, 0)]
    while waiting:
        variable, node, depth = waiting.pop()
        members = object_in(node) if isinstance(node, str) else node
        if not isinstance(members, dict) or depth >= _DEEPEST:
            yield variable
            continue
        waiting += [(f"{variable}_{variable_name(key)}", member, depth + 1) for key, member in members.items()]


def _text_of(value: SecretValue) -> str:
    """Return a value as the action reads it, empty for binary."""
    return "" if value.type is ValueType.BINARY else value.reveal().decode("utf-8", "replace")
