"""
The API of a Kubernetes cluster, for kubectl and Helm: objects are checked, stored, patched and removed.

    with FakeCluster(folder) as cluster:
        call("kubectl", "apply", "-k", …, KUBECONFIG=cluster.kubeconfig)
        cluster.objects["Deployment", "phasesync", "phasesync"]

Like a cluster it refuses fields that do not exist, and changes of what cannot be changed. A Deployment has one pod, or
none with no replicas. Nothing runs in a pod: `exec` is refused. `requests` has what arrived.
"""

from __future__ import annotations

import base64
import copy
import json
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import kubernetes_validate

from tests.support.kubernetes import Object, fits

KINDS = {
    "v1": {
        "namespaces": "Namespace",
        "pods": "Pod",
        "secrets": "Secret",
        "services": "Service",
        "serviceaccounts": "ServiceAccount",
        "persistentvolumeclaims": "PersistentVolumeClaim",
    },
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "batch/v1": {"cronjobs": "CronJob", "jobs": "Job"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "monitoring.coreos.com/v1": {
        "servicemonitors": "ServiceMonitor",
        "podmonitors": "PodMonitor",
        "prometheusrules": "PrometheusRule",
    },
    "secrets-store.csi.x-k8s.io/v1": {"secretproviderclasses": "SecretProviderClass"},
}
"""apiVersion -> name in URLs -> kind."""
SHORT = {"deployments": ["deploy"]}
"""Name in URLs -> what it is called too."""
FIXED = {
    "Deployment": ("selector",),
    "PersistentVolumeClaim": ("accessModes", "storageClassName"),
    "Service": ("clusterIP",),
}
"""Members of `spec` that an API server refuses to change."""
KEYS = ("name", "containerPort", "mountPath", "port", "topologyKey")
"""What a strategic merge patch knows the items of a list by."""

Place = tuple[str, str, str]


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }


@dataclass
class FakeCluster:
    """A cluster with the namespace `default`."""

    folder: Path
    objects: dict[Place, Object] = field(default_factory=dict)
    """(kind, namespace or nothing, name) -> object."""
    requests: list[str] = field(default_factory=list)
    """Method and URL."""

    def __enter__(self) -> Self:
        class Handler(_Handler):
            """Of this cluster."""

        Handler.api = self
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": url}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        Path(self.kubeconfig).write_text(json.dumps(config))
        Path(self.kubeconfig).chmod(0o600)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def kubeconfig(self) -> str:
        """The file by which kubectl and Helm find it."""
        return str(self.folder / "kubeconfig")

    def uids(self) -> dict[Place, str]:
        """Return who is who: an object that was removed and made again has another uid."""
        return {place: each["metadata"]["uid"] for place, each in self.objects.items()}

    # --- what can be asked

    def answer(self, method: str, url: str, body: bytes) -> Object:
        """Carry out a request."""
        self.requests.append(f"{method} {url}")
        path = urlsplit(url).path.strip("/")
        query = dict(parse_qsl(urlsplit(url).query))
        if method == "GET" and (found := _description(path)) is not None:
            return found
        version, resource, namespace, name, sub = _parse(path)
        kind = KINDS[version][resource]
        place = (kind, namespace, name)
        if sub == "exec":
            raise Refused(403, "Forbidden", "nothing runs here")
        if method == "GET" and not name:
            return self._list(version, kind, namespace, query)
        if method == "POST":
            return self._create(version, kind, namespace, _document(body))
        if place not in self.objects:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found')
        if sub == "scale":
            return self._scale(place, _document(body) if body else None)
        if method in ("PATCH", "PUT"):
            old = self.objects[place]
            given = _document(body)
            if method == "PATCH":
                given = changed(old, given) if isinstance(given, list) else merged(old, given)
            self._store(place, given, old)
        elif method == "DELETE":
            del self.objects[place]
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return self.objects[place]

    def _list(self, version: str, kind: str, namespace: str, query: dict[str, str]) -> Object:
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
        named = query.get("fieldSelector", "").removeprefix("metadata.name=")
        items = [
            each
            for (of, place, name), each in self.objects.items()
            if of == kind and place == namespace and named in ("", name)
            if wanted.items() <= each["metadata"].get("labels", {}).items()
        ]
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}

    def _create(self, version: str, kind: str, namespace: str, document: Object) -> Object:
        assert (document["apiVersion"], document["kind"]) == (version, kind)
        place = (kind, namespace, document["metadata"]["name"])
        if place in self.objects:
            raise Refused(409, "AlreadyExists", f'{kind} "{place[2]}" already exists')
        if namespace and ("Namespace", "", namespace) not in self.objects:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        if namespace:
            document["metadata"]["namespace"] = namespace
        return self._store(place, document, None)

    def _store(self, place: Place, document: Object, old: Object | None) -> Object:
        if "spec" in document:
            try:
                fits({name: value for name, value in document.items() if name != "status"})
            except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
                raise Refused(422, "Invalid", f"{place[0]} {place[2]} is invalid: {error}") from None
        for name in FIXED.get(place[0], ()) if old is not None else ():
            if old is not None and old["spec"].get(name) != document["spec"].get(name):
                raise Refused(422, "Invalid", f"{place[0]} {place[2]}: spec.{name}: field is immutable")
        document["metadata"]["uid"] = str(uuid.uuid4()) if old is None else old["metadata"]["uid"]
        document["metadata"]["resourceVersion"] = str(len(self.requests))
        self.objects[place] = document
        if place[0] == "Pod":
            document["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        if place[0] == "Deployment":
            self._run(place)
        return document

    def _run(self, place: Place) -> None:
        """Make the pod of a Deployment, or remove it."""
        spec, pod = self.objects[place]["spec"], ("Pod", place[1], f"{place[2]}-0")
        if not spec["replicas"]:
            self.objects.pop(pod, None)
        elif pod not in self.objects:
            made = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(spec["template"])}
            made["metadata"] |= {"name": pod[2], "namespace": pod[1]}
            self._store(pod, made, None)

    def _scale(self, place: Place, wanted: Object | None) -> Object:
        spec = self.objects[place]["spec"]
        if wanted is not None:
            spec["replicas"] = wanted["spec"]["replicas"]
            self._run(place)
        metadata = {"name": place[2], "namespace": place[1], "resourceVersion": "1"}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {"replicas": spec["replicas"]},
            "status": {"replicas": spec["replicas"]},
        }


def changed(old: Object, operations: list[Object]) -> Object:
    """Return an object with a JSON patch carried out, of operations that remove and replace."""
    result = copy.deepcopy(old)
    for each in operations:
        *above, name = [int(part) if part.isdigit() else part for part in each["path"].strip("/").split("/")]
        inner: Any = result
        for part in above:
            inner = inner[part]
        if each["op"] not in ("remove", "replace") or (isinstance(inner, dict) and name not in inner):
            raise Refused(422, "Invalid", f"the server rejected our request due to an error in our request: {each}")
        if each["op"] == "remove":
            del inner[name]
        else:
            inner[name] = each["value"]
    return result


def merged(old: Any, patch: Any) -> Any:
    """Return a value with a strategic merge patch carried out, for the lists that are in our manifests."""
    if isinstance(patch, dict) and isinstance(old, dict):
        result = copy.deepcopy(old)
        for name, value in patch.items():
            if name.startswith("$"):
                continue
            if value is None:
                result.pop(name, None)
            else:
                result[name] = merged(old.get(name), value)
        return result
    if isinstance(patch, list) and isinstance(old, list):
        key = next(
            (key for key in KEYS if patch and all(isinstance(item, dict) and key in item for item in patch)), None
        )
        if key is None:
            return patch
        items = {item[key]: item for item in old}
        for item in patch:
            if item.get("$patch") == "delete":
                items.pop(item[key], None)
            else:
                items[item[key]] = merged(items.get(item[key], {}), item)
        return list(items.values())
    return copy.deepcopy(patch)


def _document(body: bytes) -> Any:
    """
    Return the document of a request.

    Typed clients send protocol buffers. Of those the metadata is read, and the data of a Secret: such a client knows no
    field that does not exist.
    """
    if not body.startswith(_PROTOCOL_BUFFERS):
        return json.loads(body)
    envelope = _fields(body.removeprefix(_PROTOCOL_BUFFERS))
    version, kind = (_fields(envelope[1][0])[number][0].decode() for number in (1, 2))
    fields = _fields(envelope[2][0])
    metadata = _fields(fields[1][0])
    document: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": metadata[1][0].decode()}}
    for number, name in ((11, "labels"), (12, "annotations")):
        if number in metadata:
            document["metadata"][name] = {key: value.decode() for key, value in map(_pair, metadata[number])}
    if kind == "Secret":
        document["data"] = {key: base64.b64encode(value).decode() for key, value in map(_pair, fields.get(2, []))}
        document["type"] = fields[3][0].decode() if fields.get(3, [b""])[0] else "Opaque"
    return document


_PROTOCOL_BUFFERS = b"k8s\0"


def _pair(entry: bytes) -> tuple[str, bytes]:
    fields = _fields(entry)
    return fields[1][0].decode(), fields.get(2, [b""])[0]


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Return the fields with a length, by number; numbers are left out."""
    found: dict[int, list[bytes]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        size = number()
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(message[at : at + size])
            at += size
    return found


def _parse(path: str) -> tuple[str, str, str, str, str]:
    """Return apiVersion, resource, namespace, name and subresource of a URL."""
    parts = path.split("/")
    version, rest = (parts[1], parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    if version not in KINDS or not rest or rest[0] not in KINDS[version]:
        raise Refused(404, "NotFound", f"there is no {path}")
    resource, name, sub = (*rest, "", "")[:3]
    return version, resource, namespace, name, sub


def _description(path: str) -> Object | None:
    """Return what the API says of itself: version, kinds, and that it checks fields."""
    if path == "version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        groups = [version.split("/") for version in KINDS if "/" in version]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                    "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
                }
                for group, version in groups
            ],
        }
    kind, _, version = path.partition("/")
    if kind in ("api", "apis") and version in KINDS:
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {
                "name": name,
                "singularName": kind.lower(),
                "shortNames": SHORT.get(name, []),
                "kind": kind,
                "namespaced": kind != "Namespace",
                "verbs": verbs,
            }
            for name, kind in KINDS[version].items()
        ]
        if version == "apps/v1":
            scale = {"name": "deployments/scale", "kind": "Scale", "group": "autoscaling", "version": "v1"}
            resources.append({**scale, "singularName": "", "namespaced": True, "verbs": ["get", "patch", "update"]})
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
    if path == "openapi/v3":
        places = {version: f"apis/{version}" if "/" in version else f"api/{version}" for version in KINDS}
        return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in places.values()}}
    if path.startswith("openapi/v3/"):
        version = path.removeprefix("openapi/v3/").partition("/")[2]
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.34.0"},
            "paths": {
                f"/{name}": {
                    "patch": {
                        "parameters": [{"name": "fieldValidation", "in": "query"}],
                        "responses": {},
                        "x-kubernetes-group-version-kind": {
                            "group": version.rpartition("/")[0],
                            "version": version.rpartition("/")[2],
                            "kind": kind,
                        },
                    }
                }
                for name, kind in KINDS[version].items()
            },
            "components": {"schemas": {}},
        }
    return None


class _Handler(BaseHTTPRequestHandler):
    api: FakeCluster
    protocol_version = "HTTP/1.1"

    def _carry_out(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self.api.answer(self.command, self.path, body)
            code = 201 if self.command == "POST" else 200
        except Refused as refused:
            answer, code = refused.status, refused.code
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _carry_out

    def log_message(self, format: str, *args: object) -> None:
        """The tests' output stays clear."""
