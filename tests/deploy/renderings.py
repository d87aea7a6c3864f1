"""
Every way to install phasesync on Kubernetes that the documents name: as an overlay with components, and as the chart
with the values that say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.kubernetes import Rendered, chart, overlay

POSTGRESQL = {"database": {"type": "postgresql"}}
ROLE = "arn:aws:iam::111122223333:role/phasesync"
ROOT_KEY = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:phasesync-root-key-AbCdEf"
NEXT_ROOT_KEY = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:phasesync-root-key-next-AbCdEf"
KMS_KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NEXT_KMS_KEY = "arn:aws:kms:eu-central-1:111122223333:key/4321dcba-21ba-43dc-65fe-0987654321ba"
KMS = {"source": "kms", "kms": {"keyArn": KMS_KEY}}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One installation, said twice."""

    overlay: str
    components: tuple[str, ...] = ()
    values: dict[str, Any]

    def as_overlay(self) -> Rendered:
        return overlay(self.overlay, components=self.components)

    def as_chart(self) -> Rendered:
        return chart(self.values)


PAIRS = {
    "sqlite": Pair(overlay="sqlite", values={}),
    "postgresql": Pair(overlay="postgresql", values=POSTGRESQL),
    "irsa": Pair(overlay="eks-irsa", values=POSTGRESQL | {"aws": {"identity": "irsa", "roleArn": ROLE}}),
    "pod-identity": Pair(overlay="eks-pod-identity", values=POSTGRESQL | {"aws": {"identity": "pod-identity"}}),
    "sqlite-irsa": Pair(overlay="sqlite", components=("irsa",), values={"aws": {"identity": "irsa", "roleArn": ROLE}}),
    "sqlite-pod-identity": Pair(
        overlay="sqlite", components=("pod-identity",), values={"aws": {"identity": "pod-identity"}}
    ),
    "sqlite-watched-and-backed-up": Pair(
        overlay="sqlite",
        components=("service-monitor", "prometheus-rule", "metrics-per-sync", "backup-sqlite"),
        values={
            "metrics": {"monitor": "ServiceMonitor", "rules": True},
            "settings": {"metrics": {"per_sync": True}},
            "backup": {"enabled": True},
        },
    ),
    "postgresql-watched-and-backed-up": Pair(
        overlay="postgresql",
        components=("pod-monitor", "prometheus-rule", "procrastinate", "backup-postgresql"),
        values=POSTGRESQL
        | {
            "metrics": {"monitor": "PodMonitor", "rules": True},
            "settings": {"daemon": {"dispatch": "procrastinate"}},
            "backup": {"enabled": True},
        },
    ),
    "irsa-and-csi": Pair(
        overlay="eks-irsa",
        components=("root-key-csi",),
        values=POSTGRESQL
        | {
            "aws": {"identity": "irsa", "roleArn": ROLE},
            "rootKey": {"source": "csi", "csi": {"awsSecretArn": ROOT_KEY, "awsRegion": "eu-central-1"}},
        },
    ),
    "irsa-and-kms": Pair(
        overlay="eks-irsa",
        components=("root-key-kms",),
        values=POSTGRESQL | {"aws": {"identity": "irsa", "roleArn": ROLE}, "rootKey": KMS},
    ),
    "sqlite-pod-identity-and-kms": Pair(
        overlay="sqlite",
        components=("pod-identity", "root-key-kms", "backup-sqlite"),
        values={"aws": {"identity": "pod-identity"}, "rootKey": KMS, "backup": {"enabled": True}},
    ),
}

EVERYTHING = {
    "image": {"repository": "registry.example/phasesync", "digest": "sha256:" + "a1" * 32},
    "imagePullSecrets": [{"name": "registry"}],
    "database": {"type": "postgresql", "postgresql": {"secretName": "db", "secretKey": "dsn", "port": 6432}},
    "replicaCount": 5,
    "rootKey": {"source": "csi", "csi": {"secretProviderClass": "vault", "file": "key"}},
    "aws": {"identity": "pod-identity", "region": "eu-central-1"},
    "settings": {
        "daemon": {"workers": 16, "drain_s": 25, "dispatch": "procrastinate", "windows": ["deny: 08:00-18:00 Mon-Fri"]},
        "metrics": {"per_sync": True},
        "log": {"level": "warning"},
        "notifications": {"smtp_url": "smtp://mail.example:587", "mail_from": "phasesync@example.com"},
    },
    "extraEnv": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {
            "name": "PHASESYNC_NOTIFICATIONS__SMTP_PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "mail", "key": "password"}},
        },
    ],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "serviceAccount": {"name": "sync", "annotations": {"a.example/b": "c"}},
    "podAnnotations": {"a.example/b": "c"},
    "podLabels": {"team": "platform"},
    "priorityClassName": "high",
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [],
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "extraEgress": [{"ports": [{"protocol": "TCP", "port": 4318}]}],
    },
    "podDisruptionBudget": {"minAvailable": 3},
    "metrics": {"monitor": "PodMonitor", "rules": True, "labels": {"release": "prometheus"}},
    "backup": {"enabled": True, "existingClaim": "dumps", "keep": 3},
}
"""Every value that is not in a pair, at once."""

LEAST = {
    "serviceAccount": {"create": False},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "database": {"sqlite": {"existingClaim": "mine"}},
    "backup": {"enabled": True, "schedule": "@daily"},
}
"""Everything off that can be."""

IRSA = {"aws": {"identity": "irsa", "roleArn": ROLE}}
ROTATIONS: dict[str, dict[str, Any]] = {
    "from-a-secret-to-kms": IRSA | {"rootKey": {"source": "secret", "kms": {"keyArn": KMS_KEY}}},
    "from-csi-to-csi": IRSA
    | {"rootKey": {"source": "csi", "csi": {"awsSecretArn": ROOT_KEY, "awsNextSecretArn": NEXT_ROOT_KEY}}},
    "from-kms-to-kms": IRSA | {"rootKey": {"source": "kms", "kms": {"keyArn": KMS_KEY, "nextKeyArn": NEXT_KMS_KEY}}},
}
"""Values while the root key is being replaced. A Secret that has both keys needs none."""

RENDERINGS: dict[str, Callable[[], Rendered]] = {
    **{f"overlay-{name}": pair.as_overlay for name, pair in PAIRS.items()},
    **{f"chart-{name}": pair.as_chart for name, pair in PAIRS.items()},
    "chart-everything": lambda: chart(EVERYTHING),
    "chart-least": lambda: chart(LEAST),
    "chart-one-replica": lambda: chart(POSTGRESQL | {"replicaCount": 1}),
    "chart-other-release": lambda: chart(POSTGRESQL | {"backup": {"enabled": True}}, release="other"),
}


@pytest.fixture(params=RENDERINGS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Each of them."""
    return RENDERINGS[request.param]()
