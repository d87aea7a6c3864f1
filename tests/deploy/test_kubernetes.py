"""What is installed on Kubernetes is what Kubernetes takes, runs as nobody in particular, and fits together."""

from __future__ import annotations

import copy
import json

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

from phasesync.cli.main import cli
from phasesync.daemon.shutdown import STOP_BEYOND_DRAIN
from phasesync.settings import Settings, load_settings
from tests.deploy.renderings import PAIRS, RENDERINGS, rendered
from tests.support.kubernetes import KUSTOMIZE, NAMESPACE, Object, Rendered, chart, containers, fits, overlay, variables

__all__ = ["rendered"]

VOLUMES = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "secret"}
POD_IDENTITY_AGENT = ("169.254.170.23/32", "fd00:ec2::23/128")
"""https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html"""


def settings_of(container: Object) -> Settings:
    """Load the settings that a container's variables make; what a Secret holds is a URL of PostgreSQL."""
    environ = {name: each.get("value", "postgresql://db/phasesync") for name, each in variables(container).items()}
    loaded = load_settings(environ=environ)
    assert loaded.warnings == (), "every variable of ours is a setting"
    return loaded.settings


def selects(selector: Object, labels: Object) -> bool:
    assert list(selector) == ["matchLabels"] and selector["matchLabels"]
    return bool(selector["matchLabels"].items() <= labels.items())


def ports_of(rules: list[Object]) -> set[tuple[str, int | str]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}


class TestSchemas:
    def test_every_object_fits_its_schema(self, rendered: Rendered) -> None:
        assert len(rendered.objects) >= 4
        for document in rendered.objects:
            fits(document)

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ("CronJob", "phasesync-backup"),
            ("Deployment", "phasesync"),
            ("NetworkPolicy", "phasesync"),
            ("PersistentVolumeClaim", "phasesync-data"),
            ("Service", "phasesync"),
            ("ServiceMonitor", "phasesync"),
            ("PrometheusRule", "phasesync"),
        ],
    )
    def test_a_field_that_does_not_exist_would_be_found(self, kind, name) -> None:
        document = copy.deepcopy(PAIRS["sqlite-watched-and-backed-up"].as_overlay().only(kind, name))
        document["spec"]["relpicas"] = 1

        with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError), match="relpicas"):
            fits(document)

    def test_a_wrong_field_deep_inside_would_be_found(self) -> None:
        document = copy.deepcopy(overlay("sqlite").only("Deployment"))
        document["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}

        with pytest.raises(kubernetes_validate.ValidationError):
            fits(document)

    def test_a_wrong_field_of_an_endpoint_would_be_found(self) -> None:
        document = copy.deepcopy(overlay("sqlite", components=("service-monitor",)).only("ServiceMonitor"))
        document["spec"]["endpoints"][0]["honourLabels"] = True

        with pytest.raises(jsonschema.ValidationError):
            fits(document)

    def test_no_object_is_there_twice_and_each_is_in_the_namespace(self, rendered: Rendered) -> None:
        places = [(each["kind"], each["metadata"]["name"]) for each in rendered.objects]

        assert len(places) == len(set(places))
        for document in rendered.objects:
            if document["kind"] != "Namespace":
                assert document["metadata"]["namespace"] == NAMESPACE


class TestSecurity:
    def test_every_pod_meets_the_restricted_profile(self, rendered: Rendered) -> None:
        """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
        for template in rendered.templates:
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec)
            assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= VOLUMES
            for container in containers(template):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }

    def test_no_pod_may_ask_kubernetes_or_is_told_what_else_runs(self, rendered: Rendered) -> None:
        for template in rendered.templates:
            assert template["spec"]["automountServiceAccountToken"] is False
            assert template["spec"]["enableServiceLinks"] is False
        for account in rendered.all("ServiceAccount"):
            assert account["automountServiceAccountToken"] is False

    def test_no_secret_is_in_it(self, rendered: Rendered) -> None:
        assert rendered.all("Secret") == []
        for template in rendered.templates:
            for container in containers(template):
                found = variables(container)
                assert "PHASESYNC_ROOT_KEY" not in found
                assert "secretKeyRef" in found.get("PHASESYNC_DATABASE_URL", {"valueFrom": "secretKeyRef"})["valueFrom"]

    def test_the_root_key_is_a_file_that_the_daemon_reads_and_no_backup_has(self, rendered: Rendered) -> None:
        daemon, *backups = rendered.templates
        volumes = [volume for volume in daemon["spec"]["volumes"] if volume["name"] == "root-key"]
        for volume in volumes:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o400
            else:
                assert volume["csi"]["readOnly"] is True
        for container in containers(daemon):
            mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "root-key"]
            assert [mount["readOnly"] for mount in mounts] == [True for _ in volumes]
            settings = settings_of(container)
            assert (
                [str(settings.named_root_key_file.parent)]
                if settings.named_root_key_file
                else [mount["mountPath"] for mount in mounts] == []
            )
            assert volumes or settings.root_key_kms_key, "a root key is somewhere"
        for backup in backups:
            assert "root-key" not in json.dumps(backup)

    def test_with_kms_there_is_no_secret_and_an_identity_that_may_ask(self, rendered: Rendered) -> None:
        for container in containers(rendered.daemon):
            if settings_of(container).root_key_kms_key is None:
                return
        (account,) = rendered.all("ServiceAccount")
        agent = [
            rule
            for policy in rendered.all("NetworkPolicy")
            for rule in policy["spec"].get("egress", [])
            if "to" in rule
        ]
        assert account["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn") or agent

    def test_a_next_root_key_beside_the_present_one_is_seen(self, rendered: Rendered) -> None:
        """A volume of chosen files would hide it, and a mount of one file would never change in a pod that runs."""
        for volume in rendered.daemon["spec"]["volumes"]:
            if volume["name"] == "root-key":
                assert "items" not in volume.get("secret", {})
        for container in containers(rendered.daemon):
            assert not any("subPath" in mount for mount in container["volumeMounts"] if mount["name"] == "root-key")

    def test_the_network_policy_lets_in_probes_and_metrics_and_out_what_is_needed(self, rendered: Rendered) -> None:
        for policy in rendered.all("NetworkPolicy"):
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        daemons = [
            policy["spec"]
            for policy in rendered.all("NetworkPolicy")
            if selects(policy["spec"]["podSelector"], rendered.daemon["metadata"]["labels"])
        ]
        for spec in daemons:
            assert ports_of(spec["ingress"]) == {("TCP", "http")}
            outside = ports_of(spec["egress"]) - {("TCP", 4318)}
            agent = [rule for rule in spec["egress"] if "to" in rule]
            database = {("TCP", 5432), ("TCP", 6432)} if rendered.has_postgresql else set()
            if agent:
                assert [block["ipBlock"]["cidr"] for block in agent[0]["to"]] == list(POD_IDENTITY_AGENT)
                assert ports_of(agent) == {("TCP", 80)}
                outside -= {("TCP", 80)}
            assert {("UDP", 53), ("TCP", 53), ("TCP", 443)} <= outside
            assert len(outside) == 3 + rendered.has_postgresql
            assert outside - database == {("UDP", 53), ("TCP", 53), ("TCP", 443)}

    def test_a_backup_of_sqlite_reaches_nothing_and_one_of_postgresql_its_server(self, rendered: Rendered) -> None:
        if not rendered.all("CronJob") or not rendered.all("NetworkPolicy"):
            return
        (backup,) = rendered.templates[1:]
        (policy,) = [
            policy["spec"]
            for policy in rendered.all("NetworkPolicy")
            if selects(policy["spec"]["podSelector"], backup["metadata"]["labels"])
        ]
        assert "ingress" not in policy
        out = ports_of(policy.get("egress", []))
        assert out - {("TCP", 6432), ("TCP", 5432)} == (
            {("UDP", 53), ("TCP", 53)} if rendered.has_postgresql else set()
        )


class TestFit:
    def test_the_variables_are_settings_with_values_that_phasesync_takes(self, rendered: Rendered) -> None:
        first, daemon = containers(rendered.daemon)

        assert settings_of(first) == settings_of(daemon)
        assert settings_of(daemon).log.format == "json"
        if not rendered.has_postgresql:
            mounts = {mount["name"]: mount["mountPath"] for mount in daemon["volumeMounts"]}
            assert str(settings_of(daemon).data_dir) == mounts["data"]

    def test_a_variable_that_is_no_setting_would_be_found(self) -> None:
        with pytest.raises(AssertionError, match="is a setting"):
            settings_of({"env": [{"name": "PHASESYNC_WORKERS", "value": "8"}]})

    def test_init_and_daemon_have_the_same_variables_and_volumes(self, rendered: Rendered) -> None:
        first, daemon = containers(rendered.daemon)

        assert first["env"] == daemon["env"]
        assert first["volumeMounts"] == daemon["volumeMounts"]
        assert first["image"] == daemon["image"]

    def test_images_are_versions_and_commands_exist(self, rendered: Rendered) -> None:
        for template in rendered.templates:
            for container in containers(template):
                name, _, digest = container["image"].partition("@")
                tag = name.rpartition("/")[2].partition(":")[2]
                assert digest or tag not in ("", "latest")
        assert [container["args"] for container in containers(rendered.daemon)] == [["init"], ["daemon"]]
        assert {"init", "daemon"} <= set(cli.list_commands(click.Context(cli)))

    def test_probes_ask_what_the_daemon_answers_where_it_listens(self, rendered: Rendered) -> None:
        (container,) = rendered.daemon["spec"]["containers"]
        (port,) = container["ports"]

        assert settings_of(container).http.listen == f"0.0.0.0:{port['containerPort']}"
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}

    def test_the_start_may_take_two_minutes(self, rendered: Rendered) -> None:
        (container,) = rendered.daemon["spec"]["containers"]

        assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 120

    def test_kubernetes_waits_longer_for_the_end_than_the_daemon_takes(self, rendered: Rendered) -> None:
        (container,) = rendered.daemon["spec"]["containers"]
        drain_s = settings_of(container).daemon.drain_s

        assert rendered.daemon["spec"]["terminationGracePeriodSeconds"] > drain_s + STOP_BEYOND_DRAIN.total_seconds()

    def test_what_selects_meets_the_pods_of_the_daemon_and_of_nothing_else(self, rendered: Rendered) -> None:
        daemon, *backups = [template["metadata"]["labels"] for template in rendered.templates]
        selectors = [rendered.only("Deployment")["spec"]["selector"]]
        selectors += [{"matchLabels": rendered.only("Service")["spec"]["selector"]}]
        selectors += [
            each["spec"]["selector"] for kind in ("PodDisruptionBudget", "PodMonitor") for each in rendered.all(kind)
        ]
        selectors += [each["labelSelector"] for each in rendered.daemon["spec"].get("topologySpreadConstraints", [])]
        for job in rendered.templates[1:]:
            for rule in (
                job["spec"]
                .get("affinity", {})
                .get("podAffinity", {})
                .get("requiredDuringSchedulingIgnoredDuringExecution", [])
            ):
                selectors.append(rule["labelSelector"])

        for selector in selectors:
            assert selects(selector, daemon)
            assert not any(selects(selector, backup) for backup in backups)

    def test_monitors_find_the_port_with_the_metrics(self, rendered: Rendered) -> None:
        service = rendered.only("Service")
        (container,) = rendered.daemon["spec"]["containers"]
        for monitor in rendered.all("ServiceMonitor"):
            assert selects(monitor["spec"]["selector"], service["metadata"]["labels"])
            (endpoint,) = monitor["spec"]["endpoints"]
            assert endpoint["port"] == service["spec"]["ports"][0]["name"]
            assert endpoint["honorLabels"] is True, "otherwise `service` would be the Service's name"
        for monitor in rendered.all("PodMonitor"):
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            assert endpoint["port"] == container["ports"][0]["name"]
        assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
        assert service["spec"]["publishNotReadyAddresses"] is True

    def test_what_is_named_is_there_or_made_beforehand(self, rendered: Rendered) -> None:
        made = {(each["kind"], each["metadata"]["name"]) for each in rendered.objects}
        outside = {"default", "sync", "mine", "dumps", "vault"}
        for template in rendered.templates:
            account = template["spec"].get("serviceAccountName", "default")
            assert ("ServiceAccount", account) in made or account in outside
            mounted = {mount["name"] for container in containers(template) for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}
            for volume in template["spec"]["volumes"]:
                if "persistentVolumeClaim" in volume:
                    claim = volume["persistentVolumeClaim"]["claimName"]
                    assert ("PersistentVolumeClaim", claim) in made or claim in outside
                if "csi" in volume:
                    name = volume["csi"]["volumeAttributes"]["secretProviderClass"]
                    assert ("SecretProviderClass", name) in made or name in outside


class TestReplicas:
    def test_sqlite_is_never_opened_by_two_daemons(self, rendered: Rendered) -> None:
        if rendered.has_postgresql:
            return
        spec = rendered.only("Deployment")["spec"]

        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert rendered.all("PodDisruptionBudget") == [], "it could only forbid that a node is drained"
        for claim in rendered.all("PersistentVolumeClaim"):
            assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]

    def test_postgresql_is_worked_on_without_a_pause_while_pods_are_replaced(self, rendered: Rendered) -> None:
        if not rendered.has_postgresql:
            return
        spec = rendered.only("Deployment")["spec"]

        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        for budget in rendered.all("PodDisruptionBudget"):
            assert 1 <= budget["spec"]["minAvailable"] < spec["replicas"]
            assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert bool(rendered.all("PodDisruptionBudget")) == (spec["replicas"] > 1)

    def test_pods_are_spread_over_nodes_and_zones(self) -> None:
        for each in (overlay("postgresql"), chart(PAIRS["postgresql"].values)):
            constraints = each.daemon["spec"]["topologySpreadConstraints"]
            assert [one["topologyKey"] for one in constraints] == [
                "kubernetes.io/hostname",
                "topology.kubernetes.io/zone",
            ]

    def test_a_backup_of_sqlite_runs_on_the_node_of_the_daemon(self) -> None:
        for each in (
            PAIRS["sqlite-watched-and-backed-up"].as_overlay(),
            PAIRS["sqlite-watched-and-backed-up"].as_chart(),
        ):
            (backup,) = each.templates[1:]
            (rule,) = backup["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert rule["topologyKey"] == "kubernetes.io/hostname"


def test_the_maintenance_pod_has_the_volumes_and_variables_of_the_daemon_with_sqlite() -> None:
    pod = yaml.safe_load((KUSTOMIZE / "maintenance.yaml").read_text())
    daemon = PAIRS["sqlite-watched-and-backed-up"].as_overlay().daemon
    fits(pod)

    (ours,), (first, *_) = containers(pod), containers(daemon)
    assert ours["image"] == first["image"]
    assert ours["securityContext"] == first["securityContext"]
    assert pod["spec"]["securityContext"] == daemon["spec"]["securityContext"]
    assert {name: each for name, each in variables(first).items() if name in variables(ours)} == variables(ours)
    assert [mount for mount in first["volumeMounts"] if mount not in ours["volumeMounts"]] == []
    assert [volume for volume in daemon["spec"]["volumes"] if volume not in pod["spec"]["volumes"]] == []
    assert not selects(overlay("sqlite").only("Deployment")["spec"]["selector"], pod["metadata"]["labels"])


def test_every_kind_is_rendered_somewhere() -> None:
    """So that no test above passes because there is nothing to look at."""
    kinds = {each["kind"] for render in RENDERINGS.values() for each in render().objects}

    assert kinds == {
        "CronJob",
        "Deployment",
        "Namespace",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
        "SecretProviderClass",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    }
