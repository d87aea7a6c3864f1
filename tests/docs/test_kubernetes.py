"""
What docs/kubernetes.md says to type is carried out by kubectl and Helm, against the API of a cluster.

Nothing runs in it, so of `exec` the request is looked at. AWS's own command line checks the commands of AWS, and
sends nothing.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from tests.fakes.cluster import FakeCluster
from tests.support.awscli import AwsCli, AwsCliMissing
from tests.support.commands import wrong_with
from tests.support.kubernetes import CHART, DEPLOY, call, containers, kustomize, template, variables

TEXT = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
NOT_HERE = ("docker ",)
"""No registry and no builder of images is in the tests."""
CANARY = "typed-by-an-operator"


def yaml_blocks() -> list[str]:
    return [block for kind, block in BLOCKS if kind == "yaml"]


def lines() -> list[str]:
    """Return the commands in the order of the document; a continued line is one."""
    joined = [re.sub(r"\\\n\s*", "", block) for kind, block in BLOCKS if kind == ""]
    spans = re.findall(r"`(kubectl [^`\n]+|helm [^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S))
    commands = [line for block in joined for line in block.splitlines() if line and not line.startswith(NOT_HERE)]
    # Named in a sentence, and incomplete there, but for the one that tries a backup.
    return [*commands, *(span for span in spans if "create job" in span)]


def words_of(line: str) -> list[str]:
    """Return the words of the command of a line, without what feeds it and where its input comes from."""
    return shlex.split(re.sub(r" < \S+$", "", line.rpartition(" | ")[2]))


def piped(line: str, cluster: FakeCluster) -> str:
    """Return what the first of two commands of kubectl gives to the second one."""
    first = line.rpartition(" | ")[0]
    if not first.startswith("kubectl "):
        return ""
    said = call(*shlex.split(first), KUBECONFIG=cluster.kubeconfig)
    assert said.returncode == 0, (line, said.stderr)
    return said.stdout


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path) as made:
        yield made


@pytest.fixture
def aws(tmp_path: Path) -> AwsCli:
    """AWS's own command line; where there is none the test is skipped, and in continuous integration it fails."""
    try:
        return AwsCli(tmp_path, {"AWS_DEFAULT_REGION": "eu-central-1"})
    except AwsCliMissing as missing:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that an operator works in: deploy/, and the files that the commands read."""
    work = tmp_path / "work"
    shutil.copytree(DEPLOY, work / "deploy")
    (work / "values.yaml").write_text(yaml_blocks()[1])
    for name in ("pg_service.conf", "ca.crt"):
        (work / name).write_text(CANARY)
    return work


class TestCommands:
    def test_each_is_taken_by_kubectl_and_helm(self, cluster, folder, monkeypatch) -> None:
        monkeypatch.chdir(folder)
        done, keys = [], list[bytes]()
        for line in dict.fromkeys(lines()):
            words = words_of(line)
            if words[0] in ("openssl", "mv"):
                subprocess.run(line, shell=True, check=True, timeout=10)
            elif words[0] in ("kubectl", "helm"):
                before = len(cluster.requests)
                typed = piped(line, cluster) or CANARY
                said = call(words[0], *words[1:], stdin=typed, KUBECONFIG=cluster.kubeconfig)
                done.append(words[0])
                if "exec" in words:
                    assert_only_the_command_was_sent(words, cluster.requests[before:])
                    assert "nothing runs here" in said.stderr, (line, said.stderr)
                else:
                    assert said.returncode == 0, (line, said.stderr)
            else:
                assert words[0] == "aws" or wrong_with(line.removeprefix("phasesync ")) is None, line
            if line.startswith("openssl") and line.endswith(".next"):
                keys = [(folder / name).read_bytes() for name in ("root.key", "root.key.next")]

        assert done.count("helm") == 2 and done.count("kubectl") > 20
        assert cluster.objects["Secret", "phasesync", "phasesync-database"]["data"].keys() == {"url"}
        assert cluster.objects["Secret", "phasesync", "phasesync-root-key"]["data"] == {
            "root.key": base64.b64encode(keys[1]).decode()
        }
        assert (folder / "root.key.former").read_bytes() == keys[0]
        backup_files = cluster.objects["Secret", "phasesync", "phasesync-backup-database"]["data"]
        assert backup_files.keys() == {"pg_service.conf", "ca.crt"}
        assert ("Job", "phasesync", "phasesync-backup-now") in cluster.objects
        assert ("Pod", "phasesync", "phasesync-maintenance") not in cluster.objects
        assert cluster.objects["Deployment", "phasesync", "phasesync"]["spec"]["replicas"] == 1

    def test_each_command_in_a_pod_exists(self) -> None:
        inside = [words[words.index("--") + 1 :] for words in map(words_of, lines()) if "exec" in words]
        ours = [words for words in inside if words[0] == "phasesync"]

        assert len(ours) >= 10
        assert [words for words in inside if words[0] != "phasesync"] == [["ls", "/backup"]]
        for words in ours:
            command = " ".join(words[1:]).replace("--actor alice ", "")
            assert wrong_with(command) is None, command

    def test_a_secret_is_typed_or_piped_and_never_an_argument(self) -> None:
        setting = [line for line in lines() if " secrets set " in line or " secrets import " in line]
        assert len(setting) >= 5

        for line in setting:
            words = words_of(line)
            inside = words[words.index("--") + 1 :]
            fed = " | " in line or " < " in line
            assert ("-i" in words) == fed and ("-it" in words) == (not fed), "a terminal asks, a pipe does not"
            if "set" in inside:
                key, *rest = inside[inside.index("set") + 2 :]
                assert re.fullmatch(r"[A-Z_]+", key)
                assert rest == (["-"] if fed else [])

    def test_those_of_aws_are_what_aws_takes(self, aws) -> None:
        named = [words_of(line) for line in lines() if line.startswith("aws ")]
        assert len(named) == 3

        for words in named:
            query = words.index("--query") if "--query" in words else len(words)
            said = aws.run(*words[1:query], "--generate-cli-skeleton", "output")
            assert said.exit_code == 0, (words, said.stderr)
            if query < len(words):
                assert '"externalId"' in said.stdout

    def test_a_wrong_one_would_be_found(self, cluster, aws) -> None:
        said = call("kubectl", "creat", "secret", KUBECONFIG=cluster.kubeconfig)
        assert "unknown command" in said.stderr
        said_by_aws = aws.run(
            "eks", "create-pod-identity-association", "--clustr", "a", "--generate-cli-skeleton", "output"
        )
        assert said_by_aws.exit_code != 0


def assert_only_the_command_was_sent(words: list[str], requests: list[str]) -> None:
    """What stands behind `--` is in the URL, which is why no value may stand there; what is typed is not."""
    (sent,) = {tuple(_command_in(request)) for request in requests if "/exec?" in request}

    assert list(sent) == words[words.index("--") + 1 :]
    assert not any(CANARY in request for request in requests)


def _command_in(request: str) -> list[str]:
    return [value for name, value in parse_qsl(urlsplit(request.split(" ", 1)[1]).query) if name == "command"]


class TestExamples:
    def test_the_overlay_of_ones_own_is_what_it_says(self, folder) -> None:
        own = folder / "own"
        own.mkdir()
        (own / "kustomization.yaml").write_text(yaml_blocks()[0])

        rendered = kustomize(own)

        spec = rendered.daemon["spec"]
        assert rendered.only("Deployment")["spec"]["replicas"] == 3
        assert spec["priorityClassName"] == "production"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        for container in containers(rendered.daemon):
            assert container["image"].startswith("registry.example/phasesync@sha256:")
            assert variables(container)["PHASESYNC_DAEMON__WORKERS"]["value"] == "16"
            assert "PHASESYNC_DATABASE_URL" in variables(container)
        assert rendered.only("ServiceAccount")["metadata"]["annotations"] == {
            "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/secrets-phasesync"
        }
        assert rendered.all("ServiceMonitor") and rendered.all("PrometheusRule")

    def test_the_values_are_taken_by_the_chart(self) -> None:
        for block in yaml_blocks()[1:]:
            said = template(yaml.safe_load(block))

            assert said.returncode == 0, said.stderr

    def test_every_value_for_a_rotation_exists(self) -> None:
        values = yaml.safe_load((CHART / "values.yaml").read_text())["rootKey"]
        named = re.findall(r"`rootKey\.(\w+)(?:\.(\w+))?(?:: \w+)?`", TEXT)

        assert len(named) >= 10
        for group, name in named:
            assert name in values[group] if name else group in values

    def test_every_part_is_in_the_table_and_every_value_in_it_exists(self) -> None:
        table = TEXT.partition("| in `deploy/kubernetes/` |")[2].partition("\n\n")[0]
        kubernetes = DEPLOY / "kubernetes"
        there = {
            f"{path.parent.name}/{path.name}"
            for kind in ("overlays", "components")
            for path in (kubernetes / kind).iterdir()
        }
        values = yaml.safe_load((CHART / "values.yaml").read_text())

        assert set(re.findall(r"`((?:overlays|components)/[a-z-]+)`", table)) == there
        for name in re.findall(r"`([a-z][A-Za-z]+\.[A-Za-z.]+)(?:: [a-zA-Z-]+)?`", table):
            group, _, rest = name.partition(".")
            assert group in values, name
            assert group == "settings" or rest in values[group], name
