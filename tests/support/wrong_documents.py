"""
Documents that are wrong in one way each, with the place, what is said of it, and the fix.

`§` in a text marks the place; it is not part of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD: Final = "apiVersion: phasesync/v1\nkind: Project\nname: shop\n"
WORLD: Final = (
    HEAD
    + "apps: [shop]\nenvironments: [shop/production, shop/staging]\n"
    + "credentials: [{name: aws, type: ambient, region: eu-central-1}]\n"
)
"""What most documents begin with; everything that a sync refers to."""
MARK: Final = "§"


@dataclass(frozen=True, kw_only=True)
class WrongDocument:
    """
    A wrong document.

    Attributes:
        name: of the case.
        marked: its text, with MARK where the problem is; at the end if there is none.
        what: a part of what is said.
        fix: a part of how to correct it.
        unsaid: a text that must not be repeated.
    """

    name: str
    marked: str | bytes
    what: str
    fix: str
    unsaid: str | None = None

    @property
    def data(self) -> bytes:
        """The file."""
        if isinstance(self.marked, bytes):
            return self.marked.replace(MARK.encode(), b"", 1)
        return self.marked.replace(MARK, "", 1).encode()

    @property
    def place(self) -> str:
        """`line:column` of the problem, both from 1."""
        text = self.marked if isinstance(self.marked, str) else self.marked.decode("utf-8", "replace")
        before = text.partition(MARK)[0].replace("\r\n", "\n").removeprefix("\ufeff")
        return f"{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"


def _case(name: str, marked: str | bytes, what: str, fix: str, unsaid: str | None = None) -> WrongDocument:
    return WrongDocument(name=name, marked=marked, what=what, fix=fix, unsaid=unsaid)


def _sync(fields: str) -> str:
    """A document with one sync that is right but for `fields`."""
    return WORLD + f"syncs:\n  - {{name: web, env: shop/production, credential: aws, secret_name: web, {fields}}}\n"


def _bare_sync(fields: str) -> str:
    return WORLD + f"syncs:\n  - §{{{fields}}}\n" if MARK not in fields else WORLD + f"syncs:\n  - {{{fields}}}\n"


def _dynamic(fields: str, ttls: str = "default_ttl: 1h, max_ttl: 8h, ") -> str:
    return WORLD + f"dynamic:\n  - {{name: ci, env: shop/production, credential: aws, {ttls}{fields}}}\n"


def _credential(fields: str) -> str:
    return HEAD + f"credentials:\n  - {{name: aws, region: eu-central-1, {fields}}}\n"


def _environment(fields: str) -> str:
    return HEAD + f"apps: [shop]\nenvironments:\n  - {{name: shop/production, {fields}}}\n"


POLICY: Final = "{Version: '2012-10-17', Statement: []}"

WRONG: Final = (
    # --- files
    _case("empty file", "§", "there is no document in this file", "begin with apiVersion: phasesync/v1"),
    _case("comment only", "§# nothing\n", "there is no document", "begin with"),
    _case("white space only", "§  \n\n", "there is no document", "begin with"),
    _case("dashes only", "§---\n", "this document is empty", "write one"),
    _case(
        "empty second document", HEAD + "§---\n---\n" + HEAD.replace("shop", "blog"), "is empty", "leave out the ---"
    ),
    _case("empty last document", HEAD + "§---\n", "this document is empty", "leave out the ---"),
    _case("null", "§null\n", "this document is empty", "write one"),
    _case("a text", "§hello\n", "the document is a text, and a mapping is expected", "write fields"),
    _case("a list", "§- a\n", "the document is a list, and a mapping is expected", "write fields"),
    _case("a number", "§12\n", "the document is a number", "write fields"),
    _case("Latin-1", HEAD.encode() + b"apps: [caf" + MARK.encode() + b"\xe9]\n", "this is not UTF-8", "save the file"),
    _case("UTF-16", MARK.encode() + "\ufeffapps: []".encode("utf-16-le"), "the file is UTF-16", "save it as UTF-8"),
    _case("NUL", HEAD + "apps: [a§\0]\n", "a NUL character", "leave it out"),
    _case("control character", HEAD + "apps: ['a§\x07']\n", "a character that YAML does not take", "leave it out"),
    _case("tab as indentation", HEAD + "apps:\n§\t- shop\n", "a tab cannot indent a line", "write spaces"),
    _case(
        "byte order mark and an error", "\ufeff" + HEAD + "§app: [shop]\n", "unknown field 'app'", "did you mean apps?"
    ),
    _case("CRLF and an error", (HEAD + "§app: [shop]\n").replace("\n", "\r\n"), "unknown field", "did you mean apps?"),
    _case("no items", '{"items": §[], "next": null}', "there is no document in items", "list one"),
    # --- YAML
    _case("open list", HEAD + "apps: [shop\nsyncs§: []\n", "the list in brackets is not closed", "write ]"),
    _case(
        "open mapping", HEAD + "defaults: {app: shop\nsyncs§: []\n", "the mapping in braces is not closed", "write }"
    ),
    _case("open quotes", HEAD + "apps: ['shop]\n§", "the file ends within quotes", "close them"),
    _case("second colon", HEAD + "defaults: app§: shop\n", "a second colon", "quotes"),
    _case("no colon", HEAD + "apps\n§", "a name without a colon", "NAME: TEXT"),
    _case("reserved character", HEAD + "apps: [§@shop]\n", "this character cannot stand here", "in quotes"),
    _case("per cent", HEAD + "apps:\n  - §%shop\n", "this character cannot stand here", "in quotes"),
    _case("wrong indentation", HEAD + "apps:\n  - shop\n §- blog\n", "the indentation is wrong", "in one column"),
    _case("bad escape", HEAD + 'apps: ["sh§\\qop"]\n', "an escape that YAML does not have", "single quotes"),
    _case("custom tag", HEAD + "apps: [§!env SHOP]\n", "tags such as !this are not taken", "without it", "SHOP"),
    _case("python tag", HEAD + "apps: §!!python/object/apply:os.system ['id']\n", "tags", "without it", "os.system"),
    _case("int tag", HEAD + "apps: [§!!int '3']\n", "tags such as !this", "without it"),
    _case("binary tag", HEAD + "apps: [§!!binary c2hvcA==]\n", "tags such as !this", "without it"),
    _case("duplicate field", HEAD + "apps: []\n§apps: [shop]\n", "'apps' is written twice", "the first is in"),
    _case("duplicate tag", _sync("tags: {team: a, §team: b}"), "'team' is written twice", "leave one out"),
    _case("unknown alias", HEAD + "apps: [§*shop]\n", "there is no anchor of this name", "define it first"),
    _case("alias of itself", HEAD + "apps: &a [shop, §*a]\n", "repeats what it is in itself", "leave it out"),
    _case(
        "two merges", HEAD + "defaults: {<<: &a {app: shop}, §<<: *a}\n", "<< is written twice", "<<: [*one, *other]"
    ),
    _case("merge of a text", HEAD + "defaults: {<<: §shop}\n", "<< takes a mapping", "write <<: *ANCHOR"),
    _case("number as a name", _sync("tags: {§1: a}"), "this name of a field is not a text", "in quotes"),
    _case("boolean as a name", _sync("tags: {§on: a}"), "is true or false to programs that read YAML", "in quotes"),
    _case("list as a name", HEAD + "? §[a]\n: b\n", "this name of a field is not a text", "in quotes"),
    _case(
        "alias bomb",
        HEAD
        + "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
        + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 5))
        + f"x5: §&x5 [{', '.join(['*x4'] * 10)}]\n",
        "more than 400,000 parts, with what aliases repeat",
        "split the document",
    ),
    _case("deep", HEAD + "apps: " + "[" * 39 + "§" + "[" * 2000, "more than 40 levels deep", "nest it less"),
    _case(
        "deep by aliases",
        HEAD + "a: &a " + "[" * 25 + "]" * 25 + "\nb: " + "[" * 9 + "§" + "[" * 16 + "*a" + "]" * 25 + "\n",
        "more than 40 levels deep, with what aliases repeat",
        "nest it less",
    ),
    # --- the header
    _case("no apiVersion", "§kind: Project\nname: shop\n", "apiVersion is missing", "write apiVersion:"),
    _case("other apiVersion", HEAD.replace("phasesync/v1", "§phasesync/v2"), "not one of phasesync/v1", "did you mean"),
    _case("other kind", HEAD.replace("Project", "§Projct"), "'Projct' is not one of Project", "did you mean Project?"),
    _case(
        "another tool's document",
        "apiVersion: phasesync/v1\nkind: §Deployment\nmetadata: {name: x}\n",
        "'Deployment' is not one of Project",
        "Project",
    ),
    _case("no name", "§apiVersion: phasesync/v1\nkind: Project\n", "name is missing", "write name:"),
    _case("name is a boolean", HEAD.replace("shop", "§on"), "name is true or false to programs", "in quotes"),
    _case("name is a number", HEAD.replace("shop", "§12"), "name is a number, and a text is expected", "in quotes"),
    _case("name has an exponent", HEAD.replace("shop", "§1e3"), "name is a number to programs", "in quotes"),
    _case("name is a date", HEAD.replace("shop", "§2026-01-31"), "name is a date to programs", "in quotes"),
    _case("name is base 60", HEAD.replace("shop", "§12:30:00"), "name is a number to programs", "in quotes"),
    _case("name is hexadecimal", HEAD.replace("shop", "§0x1F"), "name is a number to programs", "in quotes"),
    _case("name is empty", HEAD.replace(" shop", "§"), "name is empty", "write a text"),
    _case("name has a space", HEAD.replace("shop", "§my shop"), "not a valid project name", "letters, digits, - and _"),
    _case(
        "unknown manage", HEAD + "manage: §strickt\n", "'strickt' is not one of track, strict", "did you mean strict?"
    ),
    _case("manage is a boolean", HEAD + "manage: §off\n", "manage is true or false", "write one of: track, strict"),
    _case("unknown section", HEAD + "§sync: []\n", "unknown field 'sync'", "did you mean syncs?"),
    _case("unknown field, nothing near", HEAD + "§qqqqq: []\n", "unknown field 'qqqqq'", "fields: apiVersion, kind"),
    _case("section is empty", HEAD + "apps:§\n", "apps is empty, and a list is expected", "write []"),
    _case(
        "section is a mapping", HEAD + "apps: §{shop: {}}\n", "apps is a mapping, and a list is expected", "- before"
    ),
    _case("section is a text", HEAD + "apps: §shop\n", "apps is a text, and a list is expected", "[ONE, TWO]"),
    _case("defaults is a list", HEAD + "defaults: §[]\n", "defaults is a list, and a mapping is expected", "fields"),
    # --- apps
    _case("app is a number", HEAD + "apps: [§1]\n", "entry 1 of apps is a number", "in quotes"),
    _case("app is a boolean", HEAD + "apps: [shop, §no]\n", "entry 2 of apps is true or false", "in quotes"),
    _case("app without a name", HEAD + "apps: [§{description: x}]\n", "name is missing", "write name:"),
    _case("app with a slash", HEAD + "apps: [§shop/web]\n", "not a valid app name", "letters, digits"),
    _case("app twice", HEAD + "apps: [shop, §Shop]\n", "the app Shop is also in", "in one place"),
    _case("unknown field of an app", HEAD + "apps: [{name: a, §window: []}]\n", "'window'", "did you mean windows?"),
    _case("windows is a text", HEAD + "apps: [{name: a, windows: §always}]\n", "windows is a text", "[ONE, TWO]"),
    _case("window is a mapping", HEAD + "apps: [{name: a, windows: [§{x: y}]}]\n", "is a mapping", "one text"),
    _case(
        "window twice",
        HEAD + "apps: [{name: a, windows: ['deny: 01:00-02:00', §'deny: 1:00-2:00 UTC']}]\n",
        "'deny: 01:00-02:00 UTC' is listed twice",
        "list it once",
    ),
    _case(
        "window of no day",
        HEAD + "apps: [{name: a, windows: [§'deny: 08:00-18:00 Mno-Fri']}]\n",
        "'Mno', which is no day; did you mean Mon?",
        "deny: 08:00-18:00 Mon-Fri Europe/Berlin",
    ),
    _case(
        "null in a text", HEAD + "apps: [{name: a, description: §}]\n", "description is empty", "leave the field out"
    ),
    # --- environments
    _case("environment without an app", HEAD + "apps: [a]\nenvironments: [§live]\n", "does not name", "write APP/ENV"),
    _case("environment of an unknown app", HEAD + "apps: [shop]\nenvironments: [§shp/x]\n", "no app shp", "mean shop?"),
    _case("no apps at all", HEAD + "environments: [§shop/x]\n", "there is no app shop", "add it under apps:"),
    _case(
        "environment twice", HEAD + "apps: [shop]\nenvironments: [shop/a, §SHOP/A]\n", "shop/A is also in", "one place"
    ),
    _case("unknown field of an environment", _environment("§folder: [/db]"), "'folder'", "did you mean folders?"),
    _case("bad folder", _environment("folders: [§'/d b']"), "not a valid path", "such as /db/replica"),
    _case("folder twice", _environment("folders: [/db, §/db/]"), "'/db' is listed twice", "list it once"),
    _case("bad key", _environment('keys: ["§A\\nB"]'.replace('"§', '§"')), "not a valid secret key", "U+000A"),
    _case("keys is a mapping", _environment("keys: §{A: s3cr3t}"), "keys is a mapping", "[ONE, TWO]", "s3cr3t"),
    _case("key twice", _environment("keys: [A, §/A]"), "the key A is listed twice", "list it once"),
    _case("key is a number", _environment("keys: [§5]"), "entry 1 of keys is a number", "in quotes"),
    _case(
        "values inline", _environment("values: §{A: s3cr3t}"), "never written in a document", "{sops: PATH}", "s3cr3t"
    ),
    _case("values is a text", _environment("values: §s3cr3t"), "never written in a document", "{sops: PATH}", "s3cr3t"),
    _case(
        "values beside sops", _environment("values: §{sops: a, B: s3cr3t}"), "never written", "secrets set", "s3cr3t"
    ),
    _case("values is empty", _environment("values: §"), "values is empty", "{sops: PATH}"),
    _case("sops is a number", _environment("values: {sops: §7}"), "values.sops is a number", "in quotes"),
    _case("no approvers", _environment("approvers: §11"), "approvers is 11", "10"),
    _case("approvers in quotes", _environment("approvers: §'1'"), "a whole number is expected", "without quotes"),
    # --- credentials
    _case(
        "credential without a type", HEAD + "credentials: [§{name: a, region: eu-west-1}]\n", "type is missing", "type:"
    ),
    _case(
        "unknown type", _credential("type: §assume"), "not one of assume-role, access-key", "did you mean assume-role?"
    ),
    _case("no Region", HEAD + "credentials: [§{name: a, type: ambient}]\n", "region is missing", "write region:"),
    _case(
        "Region in capitals",
        HEAD + "credentials: [{name: a, type: ambient, region: §EU-WEST-1}]\n",
        "'EU-WEST-1' is not an AWS Region",
        "eu-west-1",
    ),
    _case("account as a number", _credential("type: ambient, account: §111122223333"), "account is a number", "quotes"),
    _case("account in octal", _credential("type: ambient, account: §012345678901"), "account is a number", "quotes"),
    _case(
        "account too short", _credential("type: ambient, account: §'1'"), "not the id of an AWS account", "12 digits"
    ),
    _case("role ARN", _credential("type: assume-role, role_arn: §role/x"), "not the ARN of an IAM role", "looks like"),
    _case(
        "role in another partition",
        _credential("type: assume-role, role_arn: §'arn:aws-cn:iam::111122223333:role/x'"),
        "partition",
        "arn:aws:iam",
    ),
    _case(
        "External ID",
        _credential("type: assume-role, external_id: §'a b s3cr3t'"),
        "an External ID has letters and digits",
        "trust policy",
        "s3cr3t",
    ),
    _case(
        "External ID as a number", _credential("type: assume-role, external_id: §77"), "is a number", "quotes", "77,"
    ),
    _case(
        "role of an ambient one", _credential("type: ambient, §source: a"), "source belongs to the type", "leave it out"
    ),
    _case(
        "key of a role", _credential("type: assume-role, §secret_access_key: {prompt: true}"), "belongs", "access-key"
    ),
    _case(
        "secret access key inline",
        _credential("type: access-key, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: §wJalrXUtnFEMI"),
        "a secret access key is never written in a document",
        "{env: NAME}, {file: PATH} or {prompt: true}; and replace the key",
        "wJalrXUtnFEMI",
    ),
    _case(
        "secret access key under a wrong name",
        _credential("type: access-key, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: §{value: wJalr}"),
        "does not say where",
        "write {env: NAME}",
        "wJalr",
    ),
    _case(
        "two sources of a secret access key",
        _credential("type: access-key, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: §{env: A, file: b}"),
        "does not say where",
        "write {env: NAME}",
    ),
    _case(
        "prompt is false",
        _credential("type: access-key, access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: {prompt: §false}"),
        "secret_access_key.prompt is not true",
        "{prompt: true}",
    ),
    _case(
        "secret access key as the id",
        _credential("type: access-key, access_key_id: §wJalr/FEMI"),
        "that is not an access key id",
        "AKIA",
        "wJalr",
    ),
    _case(
        "no access key id",
        HEAD + "credentials: [§{name: a, type: access-key, region: eu-west-1}]\n",
        "missing",
        "needs",
    ),
    _case("its own source", _credential("type: assume-role, source: §AWS"), "its own source", "name another one"),
    _case(
        "unknown source", _credential("type: assume-role, source: §bse"), "there is no credential bse", "credentials:"
    ),
    _case(
        "credential twice",
        WORLD + "---\n" + HEAD + "credentials: [§{name: AWS, type: ambient, region: eu-west-1}]\n",
        "the credential AWS is also in",
        "in one place of one project",
    ),
    # --- syncs: what they read
    _case(
        "no environment", _bare_sync("name: a, credential: aws, secret_name: a"), "which environment", "env: app/env"
    ),
    _case(
        "env and for",
        _bare_sync("name: a, credential: aws, secret_name: a, env: shop/staging, for: [production]"),
        "has both",
        "for several",
    ),
    _case(
        "for is empty", _bare_sync("name: a, credential: aws, secret_name: a, for: §[]"), "for is empty", "leave the"
    ),
    _case("for is a text", _bare_sync("name: a, credential: aws, secret_name: a, for: §staging"), "is a text", "[ONE"),
    _case(
        "for names one twice",
        _bare_sync("name: 'a-{env}', credential: aws, secret_name: a, for: [staging, §shop/Staging]"),
        "the environment shop/staging is listed twice",
        "list it once",
    ),
    _case(
        "env alone without an app",
        HEAD + "syncs: [{name: a, credential: aws, secret_name: a, env: §live}]\n",
        "'live' does not say of which app",
        "write app/live",
    ),
    _case(
        "unknown environment",
        _sync("").replace("shop/production, c", "§shop/prodution, c"),
        "no environment",
        "mean shop/production?",
    ),
    _case(
        "unknown credential",
        _sync("").replace("credential: aws", "credential: §awz"),
        "no credential awz",
        "did you mean aws?",
    ),
    _case("env is a list", _sync("").replace("env: shop/production", "env: §[a]"), "env is a list", "write one text"),
    _case(
        "no credential", _bare_sync("name: a, env: shop/staging, secret_name: a"), "credential is missing", "defaults"
    ),
    _case(
        "no sync name", _bare_sync("env: shop/staging, credential: aws, secret_name: a"), "name is missing", "defaults"
    ),
    _case("bad path", _sync("path: §'/d b'"), "not a valid path", "such as /db/replica"),
    _case("bad sync name", _sync("").replace("name: web,", "name: §'w w',", 1), "not a valid sync name", "letters"),
    # --- syncs: templates
    _case(
        "unknown placeholder", _sync("path: §'/{key}'"), "the placeholder {key}, which does not exist", "{app}, {env}"
    ),
    _case("brace on its own", _sync("path: §'/{app'"), "a brace on its own", "{app}, {env}"),
    _case(
        "one name for several",
        _bare_sync("name: §a, credential: aws, secret_name: '{env}', for: [production, staging]"),
        "the name 'a' would be that of 2 syncs",
        "such as a-{env}",
    ),
    _case(
        "filled in names are the same",
        WORLD
        + "syncs:\n  - {name: '{env}', env: shop/staging, credential: aws, secret_name: a}\n"
        + "  - §{name: Staging, env: shop/production, credential: aws, secret_name: b}\n",
        "the sync Staging is also in",
        "in one place",
    ),
    _case(
        "template of an unknown credential",
        _bare_sync("name: a, credential: §'aws-{env}', secret_name: a, env: shop/staging"),
        "there is no credential aws-staging",
        "add it under credentials:",
    ),
    _case(
        "name template without a key",
        _bare_sync("name: a, env: shop/staging, credential: aws, name_template: §'{app}'"),
        "no {key}",
        "such as '{app}/{env}/{key}'",
    ),
    _case(
        "unknown placeholder of a name template",
        _bare_sync("name: a, env: shop/staging, credential: aws, name_template: §'{app}/{kee}'"),
        "a placeholder that does not exist",
        "placeholders: {app}, {env}, {path}, {key}",
    ),
    # --- syncs: settings
    _case(
        "no name of a secret",
        _bare_sync("name: a, env: shop/staging, credential: aws"),
        "which AWS secret",
        "secret_name",
    ),
    _case("both names", _sync("name_template: §'{key}'"), "exclude each other", "one secret a key"),
    _case(
        "layout against the name", _sync("layout: §per-key"), "layout per-key takes name_template", "leave layout out"
    ),
    _case("unknown layout", _sync("layout: §jsn"), "'jsn' is not one of json, per-key", "did you mean json?"),
    _case("camel case", _sync("§onDrift: hold"), "unknown field 'onDrift'", "did you mean on_drift?"),
    _case("hyphens", _sync("§on-drift: hold"), "unknown field 'on-drift'", "did you mean on_drift?"),
    _case("unknown on_drift", _sync("on_drift: §enforced"), "not one of enforce, hold", "did you mean enforce?"),
    _case("unknown adopt", _sync("adopt: §prefer_aws"), "'prefer_aws' is not one of", "did you mean prefer-aws?"),
    _case("unknown tag_mode", _sync("tag_mode: §replace"), "'replace' is not one of", "replace-own"),
    _case("interval as a number", _sync("interval: §300"), "a duration is expected", "with its unit"),
    _case("interval in words", _sync("interval: §5 minutes"), "'5 minutes' is not a duration", "15m"),
    _case("interval is too short", _sync("interval: §0s"), "interval is 0s, which is too short", "1s or longer"),
    _case(
        "guard window is too long", _sync("guard_window: §8d"), "guard_window is 8d, which is too long", "7d or shorter"
    ),
    _case("recovery_days", _sync("recovery_days: §31"), "recovery_days is 31", "30 or less"),
    _case("recovery_days in quotes", _sync("recovery_days: §'30'"), "a whole number is expected", "without quotes"),
    _case("percentage", _sync("shrink_limit_percent: §101"), "shrink_limit_percent is 101", "100 or less"),
    _case("fraction", _sync("delete_limit_objects: §1.5"), "a whole number is expected", "a number"),
    _case("tag is a number", _sync("tags: {cost: §17}"), "tags.cost is a number", "in quotes"),
    _case("tag is a boolean", _sync("tags: {live: §yes}"), "tags.live is true or false", "in quotes"),
    _case("tags is a list", _sync("tags: §[a]"), "tags is a list, and a mapping is expected", "NAME: TEXT"),
    _case("reserved tag", _sync("tags: §{'aws:x': a}"), "the prefix aws: is reserved", "another key"),
    _case("replica is no Region", _sync("replicas: [§Europe]"), "'Europe' is not an AWS Region", "us-west-2"),
    _case("replica twice", _sync("replicas: [eu-west-1, §eu-west-1]"), "listed twice", "list it once"),
    _case("replicas is a text", _sync("replicas: §none"), "replicas is not a list of Regions", "[eu-west-1]"),
    _case(
        "key of a replica is empty", _sync("replicas: {eu-west-1: §}"), "replicas.eu-west-1 is empty", "write a text"
    ),
    _case("kms_key is empty", _sync("kms_key: §''"), "kms_key is empty", "leave the field out"),
    _case("policy is a text", _sync("resource_policy: §policy.json"), "a policy is expected", "{file: PATH}"),
    _case("policy without a statement", _sync("resource_policy: §{Version: a}"), "has no Statement", "{file: PATH}"),
    _case(
        "date in a policy",
        _sync("resource_policy: {Version: §2012-10-17, Statement: []}"),
        "Version is a date to programs",
        "in quotes",
    ),
    _case(
        "boolean in a policy",
        _sync("resource_policy: {Statement: [{Action: §on}]}"),
        "Action is true or false to programs",
        "in quotes",
    ),
    _case(
        "policy file is missing",
        _sync("resource_policy: {file: §nowhere.json}"),
        "nowhere.json: the file does not exist",
        "starts from the folder of its document",
    ),
    _case(
        "region is a zone", _sync("region: §eu-west-1a"), "not an AWS Region", "the Region of that zone is eu-west-1"
    ),
    # --- defaults
    _case(
        "env in defaults",
        HEAD + "defaults: {syncs: {§env: shop/a}}\n",
        "unknown field 'env'",
        "phasesync schema describes",
    ),
    _case("unknown default", HEAD + "defaults: {syncs: {§interval_s: 5}}\n", "'interval_s'", "did you mean interval?"),
    _case(
        "two defaults",
        HEAD + "defaults: {syncs: {grace: 1h}}\n---\n" + HEAD + "defaults: {syncs: {grace: §2h}}\n",
        "the default of grace is another one in",
        "write it once",
    ),
    _case(
        "two ways to manage",
        HEAD + "manage: strict\n---\n" + HEAD + "manage: §track\n",
        "managed as track here, and as strict in",
        "write it in one of its documents",
    ),
    # --- dynamic secrets
    _case(
        "no lives",
        _dynamic("issuer: x", ttls="max_ttl: 8h, ").replace("- {", "- §{"),
        "default_ttl is missing",
        "write",
    ),
    _case(
        "lives the wrong way round",
        _dynamic("path: /", ttls="default_ttl: §8h, max_ttl: 1h, "),
        "longer than",
        "write default_ttl: 1h",
    ),
    _case("max_leases", _dynamic("max_leases: §0"), "max_leases is 0", "1 or more"),
    _case("template without random", _dynamic("user_template: §ci"), "has no {{random}}", "ci-{{random}}"),
    _case("policy ARN", _dynamic("policy_arns: [§ReadOnly]"), "not the ARN of a managed IAM policy", "such as arn"),
    _case("policies as a text", _dynamic("policy_arns: §ReadOnly"), "policy_arns is a text", "[ONE, TWO]"),
    _case("group", _dynamic("groups: [§'a b']"), "neither the name nor the ARN", "aws iam list-groups"),
    _case("IAM path", _dynamic("iam_path: §/"), "the IAM path / is no path of ours", "such as /ci/shop/"),
    _case("key map", _dynamic("key_map: {username: §1}"), "key_map.username is a number", "in quotes"),
    _case(
        "unknown environment of a dynamic secret",
        _dynamic("path: /").replace("shop/production, c", "§shop/x, c"),
        "no environment shop/x",
        "add it under environments:",
    ),
    _case(
        "dynamic secret twice",
        _dynamic("path: /") + "  - §{name: CI, env: staging, credential: aws, default_ttl: 1h, max_ttl: 2h}\n",
        "the dynamic secret CI is also in",
        "in one place",
    ),
    _case("unknown field of a dynamic secret", _dynamic("§ttl: 1h"), "unknown field 'ttl'", "did you mean max_ttl?"),
    # --- two projects
    _case(
        "two owners",
        WORLD + "---\n" + HEAD.replace("name: shop", "name: blog") + "apps: [§shop]\n",
        "the app shop is also in",
        "in the project shop",
    ),
)
"""The table. Everything that the documents refer to has to be in them."""
