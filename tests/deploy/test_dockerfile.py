"""The image is built from what is here, runs as nobody in particular, and holds no secret."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from phasesync.settings.model import setting_names, variable_of

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
KNOWN = {"FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "LABEL"}


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments); a line that ends with a backslash goes on."""
    lines = [line for line in DOCKERFILE.splitlines() if not re.match(r"\s*(#|$)", line)]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def arguments(word: str) -> list[str]:
    return [rest for each, rest in final_stage() if each == word]


def ignored(path: str) -> bool:
    """.dockerignore here leaves everything out, and lets some in."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return not any(line.startswith("!") and (path + "/").startswith(line[1:].rstrip("/") + "/") for line in lines)


def test_every_line_is_an_instruction() -> None:
    assert {word for word, _ in instructions()} <= KNOWN


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and not rest.startswith("--from=")]
    sources = [source for words in copied for source in words[:-1]]

    assert "phasesync" in sources and "requirements/runtime.txt" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), f"{source} is in .dockerignore"


def test_what_hatchling_needs_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*project["project"]["license-files"], project["project"]["readme"], "pyproject.toml"}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    copied = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}

    assert needed <= copied


def test_stages_are_pinned_and_of_the_same_python() -> None:
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"]

    assert len(images) == 2 and len(set(images)) == 1
    assert re.fullmatch(r"python:3\.1[1-4]-slim", images[0])


def test_pip_installs_nothing_without_a_hash() -> None:
    commands = [part for word, rest in instructions() if word == "RUN" for part in rest.split("&&")]
    installing = [command for command in commands if re.search(r"\bpip (install|wheel)\b", command)]

    assert len(installing) == 4
    for command in installing:
        assert "--no-deps" in command, "the requirements name everything"
        assert "--require-hashes" in command or "--no-index" in command


def test_it_does_not_run_as_root() -> None:
    (user,) = arguments("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes cannot tell who a name is"


def test_it_runs_our_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert json.loads(arguments("ENTRYPOINT")[0]) == list(scripts)
    assert json.loads(arguments("CMD")[0]) == ["daemon"]


def test_its_labels_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', " ".join(arguments("LABEL"))))

    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "version": project["version"],
        "licenses": project["license"],
    }


def test_it_exposes_the_port_of_the_settings() -> None:
    from phasesync.settings.model import HttpSettings

    assert arguments("EXPOSE") == [HttpSettings().listen.rpartition(":")[2]]


def test_it_holds_no_secret_and_knows_its_settings() -> None:
    given = [rest for word, rest in instructions() if word in {"ENV", "ARG"}]
    names = {name for rest in given for name in re.findall(r"(\w+)=", rest)}

    assert names.isdisjoint({"PHASESYNC_ROOT_KEY", "PHASESYNC_DATABASE_URL"})
    assert not any(re.search("PASSWORD|TOKEN|SECRET|CREDENTIAL", name) for name in names)
    ours = {name for name in names if name.startswith("PHASESYNC_")}
    assert ours and ours <= {variable_of(name) for name, _ in setting_names()}


def test_the_health_check_goes_by_the_settings_and_through_no_proxy() -> None:
    """`status --probe` does; tests/cli/test_probe.py shows it."""
    (check,) = arguments("HEALTHCHECK")
    options, _, command = check.partition(" CMD ")

    assert json.loads(command) == ["phasesync", "status", "--probe"]
    assert "--timeout=5s" in options, "longer than the probe waits"
