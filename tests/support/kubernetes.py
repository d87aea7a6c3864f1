"""
What is installed on Kubernetes, as kubectl's kustomize and Helm render it.

    overlay("sqlite", components=("backup-sqlite",))           deploy/kubernetes, as `kubectl apply -k` takes it
    chart({"database": {"type": "postgresql"}})                deploy/helm/phasesync, as `helm install` takes it

Both return `Rendered`: the objects, and how to find one. The programs are in environments of their own beside that of
the tests; the Makefile puts them there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.waiting import HANG_GUARD_S

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZE = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "phasesync"
NAMESPACE = "phasesync"

VERSIONS = ("1.27", kubernetes_validate.latest_version())
"""The oldest that the chart names, and the newest whose schemas are here."""
CUSTOM_RESOURCES: dict[str, Any] = json.loads(Path(__file__).with_name("custom_resources.json").read_text())
"""The fields of what is no part of Kubernetes, as the definitions of the Prometheus operator and of the Secrets Store
CSI driver have them (in their repositories: example/prometheus-operator-crd, and config/crd/bases)."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """The objects of one installation."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def only(self, kind: str, name: str | None = None) -> Object:
        """Return the one object of a kind, of this name if there are several."""
        (found,) = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        return found

    @property
    def daemon(self) -> Object:
        """The pod template of the daemon."""
        template: Object = self.only("Deployment")["spec"]["template"]
        return template

    @property
    def templates(self) -> list[Object]:
        """Every pod template: the daemon's, and the backup's if there is one."""
        backups = [each["spec"]["jobTemplate"]["spec"]["template"] for each in self.all("CronJob")]
        return [self.daemon, *backups]

    @property
    def has_postgresql(self) -> bool:
        """Whether the daemon is told a URL; otherwise it has SQLite."""
        (container,) = self.daemon["spec"]["containers"]
        return "PHASESYNC_DATABASE_URL" in variables(container)


def fits(document: Object) -> None:
    """Raise the error of a schema that a document does not fit."""
    schema = CUSTOM_RESOURCES.get(f"{document['apiVersion']} {document['kind']}")
    if schema is not None:
        jsonschema.validate(document, schema)
        return
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def containers(template: Object) -> list[Object]:
    """Return all containers of a pod template, those of its start first."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def variables(container: Object) -> dict[str, Object]:
    """Return the variables of a container by name, which must each stand there once."""
    names = [each["name"] for each in container.get("env", [])]
    assert len(names) == len(set(names)), names
    return {each["name"]: each for each in container.get("env", [])}


def program(name: str) -> str:
    """Return the path of `helm` or `kubectl`; skips the test where there is no wheel of it."""
    path = Path(sys.prefix) / name / "bin" / name
    if path.exists():
        return str(path)
    here = f"{platform.system()} {platform.machine()}"
    if name == "helm" and here != "Linux x86_64":
        pytest.skip(f"there is no wheel of Helm for {here}")
    reason = f"{path} is missing; `make pytest` makes it, and so does `make .venv/.{name}`"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def call(name: str, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `helm` or `kubectl` with nothing of this user's: no cluster, no configuration, no cache."""
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [program(name), *args],
            env={"HOME": home, "PATH": os.environ["PATH"], **environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=HANG_GUARD_S,
            check=False,
        )


def overlay(name: str, *, components: tuple[str, ...] = ()) -> Rendered:
    """Return an overlay of deploy/kubernetes, with components of it."""
    program("kubectl")
    return _overlay(name, components)


@cache
def _overlay(name: str, components: tuple[str, ...]) -> Rendered:
    with tempfile.TemporaryDirectory() as folder:
        above = os.path.relpath(KUSTOMIZE.resolve(), Path(folder).resolve())
        own = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [f"{above}/overlays/{name}"],
            "components": [f"{above}/components/{each}" for each in components],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(own))
        return kustomize(Path(folder))


def kustomize(folder: Path) -> Rendered:
    """Return what `kubectl apply -k` would apply."""
    done = call("kubectl", "kustomize", str(folder))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Rendered(tuple(_documents(done.stdout)))


def chart(values: Mapping[str, Any] | None = None, *, release: str = "phasesync") -> Rendered:
    """Return what `helm install` would apply with these values."""
    program("helm")
    return _chart(json.dumps(values or {}), release)


@cache
def _chart(values: str, release: str) -> Rendered:
    done = template(json.loads(values), release=release)
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(_documents(done.stdout)))


def template(values: Mapping[str, Any], *, release: str = "phasesync") -> subprocess.CompletedProcess[str]:
    """Run `helm template`, whether it succeeds or not."""
    return call(
        "helm", "template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-", stdin=json.dumps(values)
    )


def _documents(text: str) -> Iterator[Object]:
    for document in yaml.load_all(text, yaml.CSafeLoader):
        if document is not None:
            yield document
