"""The Helm chart says what the overlays say, takes over what they made, and refuses values that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import phasesync
from phasesync.adapters.root_keys.files import next_file_of
from phasesync.settings import load_settings
from phasesync.settings.model import setting_names
from tests.deploy.copies import CHART_RULES, COMPONENT_RULES, FIXED, RULES, SCHEMA, component_rules, settings_schema
from tests.deploy.renderings import (
    EVERYTHING,
    KMS,
    KMS_KEY,
    NEXT_KMS_KEY,
    NEXT_ROOT_KEY,
    PAIRS,
    POSTGRESQL,
    ROLE,
    ROOT_KEY,
    ROTATIONS,
)
from tests.support.kubernetes import (
    CHART,
    KUSTOMIZE,
    NAMESPACE,
    Object,
    call,
    chart,
    fits,
    overlay,
    template,
    variables,
)

RELEASED = {
    "sqlite": [
        ("ServiceAccount", "phasesync"),
        ("PersistentVolumeClaim", "phasesync-data"),
        ("Deployment", "phasesync"),
    ],
    "postgresql": [
        ("ServiceAccount", "phasesync"),
        ("PodDisruptionBudget", "phasesync"),
        ("Deployment", "phasesync"),
    ],
}
"""What sqlite.yaml and postgresql.yaml of release 0.1.0 made. Other names would leave these behind."""


def same(document: Object) -> Object:
    """Return an object without what says who installed it, and with its list of variables in one order."""
    document = json.loads(json.dumps(document))
    metadata = document["metadata"]
    metadata["labels"] = {
        name: value
        for name, value in metadata["labels"].items()
        if not re.fullmatch(r"helm\.sh/chart|app\.kubernetes\.io/(instance|managed-by|version)", name)
    }
    if metadata.get("annotations", {}).pop("helm.sh/resource-policy", None) and not metadata["annotations"]:
        del metadata["annotations"]
    return _in_order(document)


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        inner = [_in_order(each) for each in value]
        named = bool(inner) and all(isinstance(each, dict) and "name" in each for each in inner)
        return sorted(inner, key=lambda each: str(each["name"])) if named else inner
    return value


class TestTheOverlaysAndTheChart:
    @pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
    def test_install_the_same(self, pair) -> None:
        from_overlay = {
            (each["kind"], each["metadata"]["name"]): same(each)
            for each in pair.as_overlay().objects
            if each["kind"] != "Namespace"
        }
        from_chart = {(each["kind"], each["metadata"]["name"]): same(each) for each in pair.as_chart().objects}

        assert sorted(from_chart) == sorted(from_overlay)
        for place in from_overlay:
            assert from_chart[place] == from_overlay[place]

    @pytest.mark.parametrize("name", RELEASED)
    def test_keep_the_names_and_the_selector_of_what_is_installed_already(self, name) -> None:
        """A selector and a claim cannot be changed: another one would be refused, or leave a second daemon behind."""
        for installed in (overlay(name), chart(PAIRS[name].values)):
            assert set(RELEASED[name]) <= {(each["kind"], each["metadata"]["name"]) for each in installed.objects}
            selector = installed.only("Deployment")["spec"]["selector"]
            assert selector == {"matchLabels": {"app.kubernetes.io/name": "phasesync"}}
            for claim in installed.all("PersistentVolumeClaim"):
                assert claim["spec"] == {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                }

    def test_have_the_alerts_of_one_file(self) -> None:
        """`make manifests` writes both copies."""
        groups = yaml.safe_load(RULES.read_text())["groups"]

        assert CHART_RULES.read_bytes() == RULES.read_bytes()
        assert COMPONENT_RULES.read_text() == component_rules()
        for name in ("sqlite-watched-and-backed-up", "postgresql-watched-and-backed-up"):
            for installed in (PAIRS[name].as_overlay(), PAIRS[name].as_chart()):
                assert installed.only("PrometheusRule")["spec"] == {"groups": groups}

    def test_volumes_outlive_the_chart(self) -> None:
        installed = PAIRS["sqlite-watched-and-backed-up"].as_chart()

        claims = installed.all("PersistentVolumeClaim")
        assert [claim["metadata"]["name"] for claim in claims] == ["phasesync-backup", "phasesync-data"]
        for claim in claims:
            assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


class TestValues:
    def test_every_value_reaches_the_pods(self) -> None:
        installed = chart(EVERYTHING)
        spec = installed.daemon["spec"]
        (container,) = spec["containers"]
        environ = {name: each.get("value") for name, each in variables(container).items()}

        assert container["image"] == "registry.example/phasesync@sha256:" + "a1" * 32
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["priorityClassName"] == "high"
        assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
        assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
        assert spec["affinity"] == {"nodeAffinity": {}}
        assert spec["topologySpreadConstraints"] == []
        assert spec["serviceAccountName"] == "sync"
        assert spec["terminationGracePeriodSeconds"] == 37
        assert installed.only("Deployment")["spec"]["replicas"] == 5
        assert installed.daemon["metadata"]["annotations"] == {
            "kubectl.kubernetes.io/default-container": "phasesync",
            "a.example/b": "c",
        }
        assert installed.daemon["metadata"]["labels"] == {"app.kubernetes.io/name": "phasesync", "team": "platform"}
        assert environ["HTTPS_PROXY"] == "http://proxy.example:3128"
        assert environ["AWS_REGION"] == "eu-central-1"
        assert environ["PHASESYNC_ROOT_KEY_FILE"] == "/run/secrets/phasesync/key"
        assert variables(container)["PHASESYNC_DATABASE_URL"]["valueFrom"] == {
            "secretKeyRef": {"name": "db", "key": "dsn"}
        }
        assert {"name": "ca", "mountPath": "/etc/ca", "readOnly": True} in container["volumeMounts"]
        assert {"name": "ca", "configMap": {"name": "ca"}} in spec["volumes"]
        assert installed.only("PodMonitor")["metadata"]["labels"]["release"] == "prometheus"
        assert installed.only("NetworkPolicy", "phasesync")["spec"]["ingress"][0]["from"] == [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ]
        (backup,) = installed.templates[1:]
        assert variables(backup["spec"]["containers"][0])["BACKUP_KEEP"]["value"] == "3"

    def test_settings_become_the_variables_that_phasesync_reads(self) -> None:
        (container,) = chart(EVERYTHING).daemon["spec"]["containers"]
        environ = {name: each["value"] for name, each in variables(container).items() if "value" in each}
        settings = load_settings(environ=environ).settings

        assert (settings.daemon.workers, settings.daemon.drain_s, settings.daemon.queued) == (16, 25, True)
        assert settings.daemon.windows == ("deny: 08:00-18:00 Mon-Fri UTC",)
        assert settings.metrics.per_sync is True
        assert (settings.log.level, settings.log.format) == ("warning", "json")

    @pytest.mark.parametrize(
        ("name", "file", "kms_key", "next_kms_key"),
        [
            ("from-a-secret-to-kms", "/run/secrets/phasesync/root.key", KMS_KEY, None),
            ("from-csi-to-csi", "/run/secrets/phasesync/root.key", None, None),
            ("from-kms-to-kms", None, KMS_KEY, NEXT_KMS_KEY),
        ],
    )
    def test_during_a_rotation_the_pods_have_both_root_keys(self, name, file, kms_key, next_kms_key) -> None:
        installed = chart(ROTATIONS[name])
        (container,) = installed.daemon["spec"]["containers"]
        environ = {name: each["value"] for name, each in variables(container).items()}
        settings = load_settings(environ=environ).settings

        assert settings.named_root_key_file == (file and Path(file))
        assert (settings.root_key_kms_key, settings.root_key_kms_key_next) == (kms_key, next_kms_key)
        for document in installed.objects:
            fits(document)
        for mounted in installed.all("SecretProviderClass"):
            objects = yaml.safe_load(mounted["spec"]["parameters"]["objects"])
            assert {each["objectAlias"]: each["objectName"] for each in objects} == {
                "root.key": ROOT_KEY,
                next_file_of(Path("root.key")).name: NEXT_ROOT_KEY,
            }

    @pytest.mark.parametrize(
        "more",
        [
            {"serviceAccount": {"create": False, "name": "mine"}},
            {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": ROLE}}},
            {"extraEnv": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAIOSFODNN7EXAMPLE"}]},
        ],
        ids=["service-account", "annotations", "variables"],
    )
    def test_an_identity_that_the_chart_does_not_make_is_taken_for_kms(self, more) -> None:
        done = template({"rootKey": KMS} | more)

        assert done.returncode == 0, done.stderr

    def test_a_setting_that_is_taken_out_has_its_default(self) -> None:
        (container,) = chart({"settings": {"log": {"format": None}}}).daemon["spec"]["containers"]

        assert "PHASESYNC_LOG__FORMAT" not in variables(container)

    def test_the_schema_has_every_setting_but_those_that_the_chart_decides(self) -> None:
        """`make manifests` writes it anew."""
        schema = json.loads(SCHEMA.read_text())

        assert schema["properties"]["settings"] == settings_schema()
        assert {name for name, _ in setting_names()} >= FIXED
        environ = {"PHASESYNC_" + name.replace(".", "__").upper() for name in FIXED - {"root_key"}}
        found = set()
        for values in ({}, POSTGRESQL, ROTATIONS["from-kms-to-kms"]):
            (container,) = chart(values).daemon["spec"]["containers"]
            found |= set(variables(container))
        assert environ <= found

    def test_the_schema_knows_every_value_and_nothing_else(self) -> None:
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        schema = json.loads(SCHEMA.read_text())

        assert set(schema["properties"]) - {"global"} == set(values)
        assert _open_objects(schema, "") <= {
            "affinity",
            "global",
            "podSecurityContext",
            "securityContext",
            *(f"{name}.{inner}" for name in ("resources", "backup.resources") for inner in ("requests", "limits")),
        }

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"replicas": 2}, "Additional property replicas is not allowed"),
            ({"image": {"Tag": "1"}}, "image: Additional property Tag is not allowed"),
            ({"image": {"digest": "abc"}}, "image.digest: Does not match pattern"),
            ({"replicaCount": "2"}, "replicaCount: Invalid type. Expected: [integer,null], given: string"),
            ({"database": {"type": "mysql"}}, 'database.type must be one of the following: "sqlite", "postgresql"'),
            ({"rootKey": {"source": "age"}}, 'rootKey.source must be one of the following: "secret", "csi", "kms"'),
            ({"rootKey": {"source": "kms"}}, "rootKey.source=kms needs rootKey.kms.keyArn"),
            ({"rootKey": {"kms": {"keyArn": "alias/phasesync"}}}, "rootKey.kms.keyArn: Does not match pattern"),
            ({"rootKey": {"kms": {"nextKeyArn": KMS_KEY}}}, "a KMS key that takes the place of a file is"),
            ({"rootKey": KMS}, "rootKey.kms.keyArn needs an identity of AWS for the pods: set aws.identity"),
            (
                {"settings": {"root_key_kms_key": KMS_KEY}},
                "settings: Additional property root_key_kms_key is not allowed",
            ),
            (
                {"rootKey": {"source": "csi", "csi": {"secretProviderClass": "a", "awsNextSecretArn": NEXT_ROOT_KEY}}},
                "add the next root key to yours, with .next behind the name of its file",
            ),
            ({"aws": {"roleArn": "phasesync"}}, "aws.roleArn: Does not match pattern"),
            ({"settings": {"daemon": {"worker": 1}}}, "settings.daemon: Additional property worker is not allowed"),
            ({"settings": {"daemon": {"workers": 65}}}, "settings.daemon.workers: Must be less than or equal to 64"),
            ({"settings": {"root_key": "x"}}, "settings: Additional property root_key is not allowed"),
            (
                {"settings": {"notifications": {"smtp_password": "x"}}},
                "settings.notifications: Additional property smtp_password is not allowed",
            ),
            ({"settings": {"notifications": {"smtp_url": 1}}}, "settings.notifications.smtp_url: Invalid type"),
            ({"settings": {"http": {"listen": "[::]:1"}}}, "settings: Additional property http is not allowed"),
            ({"metrics": {"monitor": True}}, "metrics.monitor must be one of the following"),
            ({"backup": {"schedule": "daily"}}, "backup.schedule: Does not match pattern"),
            ({"replicaCount": 2}, "SQLite is for one pod: set replicaCount=1, or database.type=postgresql"),
            ({"settings": {"daemon": {"dispatch": "procrastinate"}}}, "needs database.type=postgresql"),
            ({"aws": {"identity": "irsa"}}, "aws.identity=irsa needs aws.roleArn"),
            ({"aws": {"roleArn": "arn:aws:iam::111122223333:role/a"}}, "aws.roleArn is for aws.identity=irsa"),
            (
                {"aws": PAIRS["irsa"].values["aws"], "serviceAccount": {"create": False}},
                "set serviceAccount.create=true",
            ),
            ({"rootKey": {"source": "csi"}}, "rootKey.source=csi needs rootKey.csi.secretProviderClass"),
            (
                {
                    "rootKey": {
                        "csi": {
                            "secretProviderClass": "a",
                            "awsSecretArn": PAIRS["irsa-and-csi"].values["rootKey"]["csi"]["awsSecretArn"],
                        }
                    }
                },
                "leave it out, or rootKey.csi.secretProviderClass",
            ),
            (
                {"backup": {"enabled": True}, "database": {"sqlite": {"accessMode": "ReadWriteOncePod"}}},
                "set database.sqlite.accessMode=ReadWriteOnce",
            ),
            (
                POSTGRESQL | {"podDisruptionBudget": {"minAvailable": 2}},
                "podDisruptionBudget.minAvailable has to be less than replicaCount",
            ),
            ({"terminationGracePeriodSeconds": 10}, "terminationGracePeriodSeconds has to be more than"),
            (
                {"podLabels": {"app.kubernetes.io/name": "a"}},
                "podLabels has app.kubernetes.io/name, which the chart sets",
            ),
            (
                {"metrics": {"labels": {"app.kubernetes.io/version": "a"}}},
                "metrics.labels has app.kubernetes.io/version",
            ),
            ({"podAnnotations": {"kubectl.kubernetes.io/default-container": "a"}}, "which the chart sets"),
            (
                {"aws": {"region": "eu-west-1"}, "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}]},
                "extraEnv has AWS_REGION, and aws.region is set",
            ),
            ({"image": {"tag": "latest"}}, "image.tag=latest could change the release with any restart"),
            ({"extraEnv": [{"name": "PHASESYNC_ROOT_KEY", "value": "x"}]}, "Name the Secret with rootKey.secret.name"),
            ({"extraEnv": [{"name": "PHASESYNC_ROOT_KEY_NEXT", "valueFrom": {}}]}, "Put the next root key beside the"),
            ({"extraEnv": [{"name": "PHASESYNC_ROOT_KEY_KMS_KEY", "value": "x"}]}, "named with rootKey.kms.keyArn and"),
            ({"extraEnv": [{"name": "PHASESYNC_LOG__LEVEL", "value": "x"}]}, "what can be set is under settings"),
        ],
        ids=lambda given: given if isinstance(given, str) else "",
    )
    def test_what_is_unknown_or_wrong_is_refused_with_the_reason(self, values, message) -> None:
        done = template(values)

        assert done.returncode != 0
        assert message in done.stderr
        assert "nil pointer" not in done.stderr and "panic" not in done.stderr

    def test_other_releases_have_names_and_selectors_of_their_own(self) -> None:
        ours, other = chart(POSTGRESQL), chart(POSTGRESQL, release="other")

        assert {each["metadata"]["name"] for each in other.objects} == {"other-phasesync"}
        assert other.only("Service")["spec"]["selector"] == {"app.kubernetes.io/name": "other-phasesync"}
        assert ours.only("Service")["spec"]["selector"] == {"app.kubernetes.io/name": "phasesync"}


def _open_objects(schema: Object, place: str) -> set[str]:
    """Return where a schema of values takes any name: objects of Kubernetes, whose fields Kubernetes checks."""
    found = set()
    if schema.get("type") == "object" and "properties" not in schema and "additionalProperties" not in schema:
        found.add(place)
    if "properties" in schema:
        assert schema["additionalProperties"] is False, place
    for name, inner in schema.get("properties", {}).items():
        found |= _open_objects(inner, f"{place}.{name}".strip("."))
    return found


class TestTheChart:
    def test_helm_has_no_complaint(self) -> None:
        for values in ({}, EVERYTHING):
            done = call("helm", "lint", "--strict", str(CHART), "--values", "-", stdin=json.dumps(values))
            assert done.returncode == 0, done.stdout + done.stderr

    def test_helm_would_complain(self, tmp_path) -> None:
        copy = _copy(CHART, tmp_path)
        deployment = copy / "templates" / "deployment.yaml"
        deployment.write_text(deployment.read_text().replace("phasesync.fullname", "phasesync.fullnames", 1))

        assert call("helm", "lint", "--strict", str(copy)).returncode != 0

    def test_it_is_for_this_release(self) -> None:
        document = yaml.safe_load((CHART / "Chart.yaml").read_text())

        assert document["appVersion"] == phasesync.__version__
        (container,) = overlay("sqlite").daemon["spec"]["containers"]
        assert container["image"] == f"phasesync:{phasesync.__version__}"

    def test_helm_packs_everything_that_it_needs(self, tmp_path) -> None:
        assert call("helm", "package", str(CHART), "--destination", str(tmp_path)).returncode == 0
        (archive,) = tmp_path.glob("phasesync-*.tgz")
        values = json.dumps({"metrics": {"rules": True}})
        done = call("helm", "template", "phasesync", str(archive), "--namespace", NAMESPACE, "-f", "-", stdin=values)

        assert done.returncode == 0, done.stderr
        assert "alert: PhasesyncDaemonAbsent" in done.stdout


def _copy(folder: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, target / folder.name))


def test_every_folder_of_kustomize_is_rendered_by_a_test() -> None:
    overlays = {path.name for path in (KUSTOMIZE / "overlays").iterdir()}
    components = {path.name for path in (KUSTOMIZE / "components").iterdir()}

    assert overlays == {pair.overlay for pair in PAIRS.values()}
    assert components == {name for pair in PAIRS.values() for name in pair.components}
