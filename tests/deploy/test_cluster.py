"""kubectl and Helm install phasesync into the API of a cluster, and Helm takes over what kubectl installed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.renderings import PAIRS, Pair
from tests.fakes.cluster import FakeCluster
from tests.support.commands import wrong_with
from tests.support.kubernetes import CHART, KUSTOMIZE, NAMESPACE, call, containers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path) as made:
        yield made


def apply(cluster: FakeCluster, overlay: str) -> str:
    done = call("kubectl", "apply", "-k", str(KUSTOMIZE / "overlays" / overlay), KUBECONFIG=cluster.kubeconfig)
    assert done.returncode == 0, done.stderr
    return done.stdout


def helm(cluster: FakeCluster, *args: str, values: dict[str, Any] | None = None) -> tuple[int, str]:
    given = ["--values", "-"] if values is not None else []
    done = call(
        *("helm", *args, "--namespace", NAMESPACE, *given),
        stdin=json.dumps(values),
        KUBECONFIG=cluster.kubeconfig,
    )
    return done.returncode, done.stdout + done.stderr


INSTALL = ("upgrade", "--install", "phasesync", str(CHART))


class TestTakingOver:
    @pytest.mark.parametrize("pair", [PAIRS["sqlite"], PAIRS["pod-identity"]], ids=["sqlite", "postgresql"])
    def test_helm_takes_over_what_an_overlay_made_and_replaces_nothing(self, pair: Pair, cluster) -> None:
        apply(cluster, pair.overlay)
        before, pods = cluster.uids(), cluster.objects["Pod", NAMESPACE, "phasesync-0"]
        spec = cluster.objects["Deployment", NAMESPACE, "phasesync"]["spec"]

        code, said = helm(cluster, *INSTALL, "--take-ownership", values=pair.values)

        assert code == 0, said
        assert {place: uid for place, uid in cluster.uids().items() if place[0] != "Secret"} == before
        assert cluster.objects["Pod", NAMESPACE, "phasesync-0"] is pods
        assert cluster.objects["Deployment", NAMESPACE, "phasesync"]["spec"] == spec
        for (kind, _, _), document in cluster.objects.items():
            if kind not in ("Namespace", "Pod", "Secret"):
                assert document["metadata"]["annotations"]["meta.helm.sh/release-name"] == "phasesync"
        assert helm(cluster, *INSTALL, values=pair.values)[0] == 0, "and goes on without the option"

    def test_without_the_option_it_is_refused_and_nothing_changes(self, cluster) -> None:
        apply(cluster, "sqlite")
        before = cluster.uids()

        code, said = helm(cluster, *INSTALL, values={})

        assert code != 0
        assert "invalid ownership metadata" in said
        assert cluster.uids() == before

    def test_the_way_back_is_the_overlay(self, cluster) -> None:
        assert helm(cluster, *INSTALL, "--create-namespace", values={})[0] == 0
        before = cluster.uids()

        said = apply(cluster, "sqlite")

        assert "created" not in said
        assert cluster.uids() == before


def test_a_release_of_another_name_leaves_what_is_installed_alone(cluster) -> None:
    apply(cluster, "sqlite")
    before = cluster.uids()

    code, said = helm(cluster, "upgrade", "--install", "other", str(CHART), "--take-ownership", values={})

    assert code == 0, said
    assert before.items() <= cluster.uids().items()
    assert ("Deployment", NAMESPACE, "other-phasesync") in cluster.objects


def test_the_cluster_refuses_another_selector_and_another_claim(cluster) -> None:
    """Otherwise the tests above would say nothing."""
    apply(cluster, "sqlite")

    code, said = helm(
        cluster,
        *INSTALL,
        "--take-ownership",
        values={"database": {"sqlite": {"storageClassName": "other"}}},
    )

    assert code != 0
    assert "spec.storageClassName: field is immutable" in said


UPGRADE = (KUSTOMIZE.parents[1] / "docs" / "upgrade.md").read_text()


@pytest.mark.parametrize("installed_with", ["kubectl", "helm"])
def test_the_way_back_to_the_former_release_leaves_out_its_init_container(installed_with: str, cluster) -> None:
    """That of 0.1.0 refuses the newer schema; tests/upgrade shows that its daemon works with it."""
    (command,) = re.findall(r"^ *(kubectl -n phasesync patch .*?\]')$", UPGRADE, flags=re.MULTILINE | re.DOTALL)

    def install() -> list[str]:
        if installed_with == "kubectl":
            apply(cluster, "sqlite")
        else:
            code, said = helm(cluster, *INSTALL, "--create-namespace", values={})
            assert code == 0, said
        spec = cluster.objects["Deployment", NAMESPACE, "phasesync"]["spec"]["template"]["spec"]
        return [container["image"] for container in containers({"spec": spec})]

    before = install()
    done = call(*shlex.split(command), KUBECONFIG=cluster.kubeconfig)

    assert done.returncode == 0, done.stderr
    spec = cluster.objects["Deployment", NAMESPACE, "phasesync"]["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert [each["image"] for each in spec["containers"]] == ["registry.example/phasesync:0.1.0"]
    assert install() == before, "and forward again"


def test_removing_the_chart_keeps_the_volumes(cluster) -> None:
    pair = PAIRS["sqlite-watched-and-backed-up"]
    assert helm(cluster, *INSTALL, "--create-namespace", values=pair.values)[0] == 0

    code, said = helm(cluster, "uninstall", "phasesync")

    assert code == 0, said
    kept = {(kind, name) for kind, _, name in cluster.objects if kind != "Pod"}
    assert kept == {
        ("Namespace", NAMESPACE),
        ("PersistentVolumeClaim", "phasesync-data"),
        ("PersistentVolumeClaim", "phasesync-backup"),
    }


@pytest.mark.parametrize(
    "name", ["sqlite", "pod-identity", "postgresql-watched-and-backed-up", "irsa-and-csi", "irsa-and-kms"]
)
def test_the_notes_name_commands_that_exist(name, cluster) -> None:
    code, said = helm(cluster, *INSTALL, "--create-namespace", values=PAIRS[name].values)
    notes = said.partition("NOTES:\n")[2]

    assert code == 0, said
    commands = re.findall(r"-- phasesync ([^<\n]+)", notes)
    assert len(commands) >= 3
    assert [why for line in commands if (why := wrong_with(line)) is not None] == []
    assert "<no value>" not in notes and "%!" not in notes
    for line in notes.splitlines():
        if "kubectl" in line:
            assert f"kubectl -n {NAMESPACE} " in line
