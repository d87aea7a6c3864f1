"""The manifests are what Kubernetes takes, run as nobody in particular, and name what exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from phasesync.settings.model import setting_names, variable_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
SETTINGS = {variable_of(name) for name, _ in setting_names()}


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def only(file: Path, kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents(file) if document["kind"] == kind]
    return found


def pod(file: Path) -> dict[str, Any]:
    return only(file, "Deployment")["spec"]["template"]["spec"]


def containers(file: Path) -> list[dict[str, Any]]:
    return [*pod(file)["initContainers"], *pod(file)["containers"]]


def test_there_is_one_for_each_database() -> None:
    assert [file.name for file in FILES] == ["postgresql.yaml", "sqlite.yaml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
class TestEach:
    def test_every_object_fits_its_schema(self, file) -> None:
        for document in documents(file):
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)

    def test_a_wrong_field_would_be_found(self, file) -> None:
        deployment = only(file, "Deployment")
        deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}

        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)

    def test_it_meets_the_restricted_profile(self, file) -> None:
        """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
        context = pod(file)["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(file):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod(file))
        assert {next(iter(set(volume) - {"name"})) for volume in pod(file)["volumes"]} <= {
            "secret",
            "emptyDir",
            "persistentVolumeClaim",
        }
        assert only(file, "Namespace")["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}

    def test_every_variable_is_a_setting(self, file) -> None:
        names = {variable["name"] for container in containers(file) for variable in container["env"]}
        assert names and names <= SETTINGS

    def test_no_secret_is_in_it(self, file) -> None:
        assert [document for document in documents(file) if document["kind"] == "Secret"] == []
        variables = {item["name"]: item for container in containers(file) for item in container["env"]}
        assert "PHASESYNC_ROOT_KEY" not in variables
        if "PHASESYNC_DATABASE_URL" in variables:
            assert "secretKeyRef" in variables["PHASESYNC_DATABASE_URL"]["valueFrom"]

    def test_the_root_key_is_a_file_from_a_secret(self, file) -> None:
        (volume,) = [volume for volume in pod(file)["volumes"] if volume["name"] == "root-key"]
        assert volume["secret"]["defaultMode"] == 0o400
        for container in containers(file):
            (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "root-key"]
            (setting,) = [item for item in container["env"] if item["name"] == "PHASESYNC_ROOT_KEY_FILE"]
            assert mount["readOnly"] is True
            assert setting["value"] == f"{mount['mountPath']}/root.key"

    def test_probes_ask_where_the_daemon_listens(self, file) -> None:
        (container,) = pod(file)["containers"]
        (listen,) = [item["value"] for item in container["env"] if item["name"] == "PHASESYNC_HTTP__LISTEN"]
        (port,) = container["ports"]
        assert listen == f"0.0.0.0:{port['containerPort']}"
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}

    def test_kubernetes_waits_longer_for_the_end_than_the_daemon_takes(self, file) -> None:
        from phasesync.daemon.shutdown import STOP_BEYOND_DRAIN
        from phasesync.settings.model import DaemonSettings

        assert pod(file)["terminationGracePeriodSeconds"] > (
            DaemonSettings().drain_s + STOP_BEYOND_DRAIN.total_seconds()
        )

    def test_images_are_versions_and_commands_exist(self, file) -> None:
        from phasesync.cli.main import cli

        for container in containers(file):
            _, _, tag = container["image"].partition(":")
            assert tag not in ("", "latest")
            assert container["args"][0] in cli.list_commands(click.Context(cli))

    def test_selectors_meet_their_pods(self, file) -> None:
        spec = only(file, "Deployment")["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        for document in documents(file):
            if document["kind"] == "PodDisruptionBudget":
                assert document["spec"]["selector"]["matchLabels"] == labels
            if document["kind"] != "Namespace":
                assert document["metadata"]["namespace"] == only(file, "Namespace")["metadata"]["name"]


def test_sqlite_is_never_opened_by_two_pods() -> None:
    spec = only(FOLDER / "sqlite.yaml", "Deployment")["spec"]
    claim = only(FOLDER / "sqlite.yaml", "PersistentVolumeClaim")

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_postgresql_is_worked_on_by_several_pods_of_which_one_stays() -> None:
    file = FOLDER / "postgresql.yaml"

    assert only(file, "Deployment")["spec"]["replicas"] >= 2
    assert only(file, "PodDisruptionBudget")["spec"]["minAvailable"] == 1
