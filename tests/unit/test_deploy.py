"""The deployment files: valid by their own schemas, and in step with the service's settings, commands, queues and secrets."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

import deploy.healthcheck
import server.__main__
import workers.__main__
from server.jobs import QUEUES
from server.settings import Settings, environment_name
from tests.running import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.32"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTALLED = "/opt/atomas"
Document = dict[str, Any]


def documents(*kinds: str) -> list[Document]:
    """The Kubernetes objects of these kinds, of all kinds when none is named."""
    found = itertools.chain.from_iterable(yaml.safe_load_all(path.read_text()) for path in MANIFESTS)
    return [document for document in found if not kinds or document["kind"] in kinds]


def compose() -> Document:
    content: Document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


def pods() -> dict[str, Document]:
    """The pod of every workload by the workload's name."""
    return {d["metadata"]["name"]: d["spec"]["template"] for d in documents("Deployment", "StatefulSet", "Job")}


def program(path: str) -> str:
    """A tool that belongs to the environment or the system."""
    found = shutil.which(path, path=str(Path(sys.executable).parent)) or shutil.which(path)
    assert found, f"{path} is missing: run `make setup` and deploy/install-test-services.sh."
    return found


def passes(*command: str) -> None:
    run = subprocess.run([program(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


# Valid by themselves


@pytest.mark.parametrize(
    "document", [d for d in documents() if "keda.sh" not in d["apiVersion"]], ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_every_manifest_is_what_kubernetes_accepts(document: Document) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_wrong_manifest_would_be_noticed() -> None:
    wrong = {**documents("Service")[0], "spec": {"ports": [{"port": "http"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_compose_file_follows_its_specification() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_the_dockerfile_has_no_known_faults() -> None:
    passes("hadolint", "deploy/Dockerfile")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # As if the tree were installed; an instance for the template.
        name = unit.name.replace("@.", "@import.")
        (tmp_path / name).write_text(
            unit.read_text().replace(f"{INSTALLED}/.venv/bin/python", sys.executable).replace(INSTALLED, str(ROOT))
        )
    passes("systemd-analyze", "verify", "--man=no", *(str(path) for path in tmp_path.iterdir()))


def test_kustomize_lists_every_manifest() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in MANIFESTS]


# In step with the service


def test_every_variable_is_a_setting() -> None:
    known = {environment_name(name) for name in Settings.model_fields}
    for path in (path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".py")):
        named = set(re.findall(r"\bATOMAS_[A-Z_]+\b", path.read_text()))
        assert named <= known, f"{path.relative_to(ROOT)} names {sorted(named - known)}"


def test_values_of_plain_variables_are_valid_settings() -> None:
    given = {
        env["name"]: env["value"]
        for pod in pods().values()
        for c in pod["spec"]["containers"]
        for env in c.get("env", [])
        if "value" in env
    }
    [generated] = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["configMapGenerator"]
    given |= dict(literal.split("=", 1) for literal in generated["literals"])
    for service in compose()["services"].values():
        given |= service.get("environment", {})
    values = {name.removeprefix("ATOMAS_").lower(): value for name, value in given.items() if name.startswith("ATOMAS_")}
    assert Settings.model_validate(values).chemistry_processes


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours: where it stands, and its words."""
    for name, service in compose()["services"].items():
        yield f"compose {name}", service.get("command", [])
        yield f"compose {name} health", service["healthcheck"].get("test", [])[1:]
    for name, pod in pods().items():
        for container in pod["spec"]["containers"]:
            yield f"kubernetes {name}", container.get("command", [])
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                yield f"kubernetes {name} {probe}", container.get(probe, {}).get("exec", {}).get("command", [])
    for unit in UNITS:
        [line] = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        for queue in QUEUES if "%i" in line else ("",):
            yield unit.name, shlex.split(line.replace("%i", queue).replace(f"{INSTALLED}/.venv/bin/", ""))
    for line in re.findall(r"CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        yield "Dockerfile", yaml.safe_load(line)


OURS = [pytest.param(words[1:], id=f"{place}: {' '.join(words)}") for place, words in commands() if words and words[0] == "python"]


@pytest.mark.parametrize("words", OURS)
def test_every_command_is_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"server": server.__main__, "workers": workers.__main__, "deploy.healthcheck": deploy.healthcheck}
    monkeypatch.setattr(server.__main__, "_serve", lambda settings: 0)
    monkeypatch.setattr(server.__main__, "_migrate", lambda settings: 0)
    monkeypatch.setattr(workers.__main__, "run_worker", lambda settings, queues: 0)
    monkeypatch.setattr(deploy.healthcheck, "server_complaint", lambda listen: "")
    monkeypatch.setattr(deploy.healthcheck, "worker_complaint", lambda url: "")
    monkeypatch.setattr(deploy.healthcheck, "structures_complaint", lambda listen: "")
    monkeypatch.setattr(server.__main__, "_keep_structures", lambda settings: 0)
    assert words[0] == "-m"
    monkeypatch.setattr("sys.argv", words[1:])
    assert modules[words[1]].main() == 0


def queues_of(lines: Iterator[list[str]]) -> list[str]:
    return sorted(",".join(line[line.index("--queues") + 1 :]) for line in lines if "--queues" in line)


def test_every_queue_has_its_worker_everywhere() -> None:
    assert queues_of(service.get("command", []) for service in compose()["services"].values()) == sorted(QUEUES)
    assert queues_of(pod["spec"]["containers"][0].get("command", []) for pod in pods().values()) == sorted(QUEUES)


def test_what_encodes_runs_in_the_image_with_torch() -> None:
    for queue in QUEUES:
        image = "atomas-server" if queue == "import" else "atomas-worker"
        assert compose()["services"][f"worker-{queue}"]["image"].startswith(image)
        assert pods()[f"worker-{queue}"]["spec"]["containers"][0]["image"] == image


def test_workers_scale_by_the_queue_that_they_take() -> None:
    scaled = {d["spec"]["scaleTargetRef"]["name"]: d["spec"]["triggers"] for d in documents("ScaledObject")}
    for queue in QUEUES:
        lengths = [trigger["metadata"] for trigger in scaled.pop(f"worker-{queue}") if trigger["type"] == "redis"]
        assert [length["listName"] for length in lengths] == [queue]
    assert not scaled


def test_selectors_find_their_pods() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for document in documents("Service", "PodDisruptionBudget", "Deployment", "StatefulSet"):
        selector = document["spec"]["selector"]
        wanted = selector.get("matchLabels", selector) if document["kind"] != "Service" else selector
        assert sum(wanted.items() <= one.items() for one in labels) == 1, document["metadata"]["name"]
    for document in documents("HorizontalPodAutoscaler"):
        assert document["spec"]["scaleTargetRef"]["name"] in pods()


def test_what_serves_for_long_survives_an_eviction() -> None:
    budgets = {d["metadata"]["name"] for d in documents("PodDisruptionBudget")}
    assert budgets == {"server", *(f"worker-{queue}" for queue in QUEUES)}


def test_nothing_runs_as_root_or_may_become_it() -> None:
    for name, pod in pods().items():
        assert pod["spec"]["securityContext"]["runAsNonRoot"], name
        for container in pod["spec"]["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
    user = re.findall(r"^USER (\d+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert [int(number) > 0 for number in user] == [True]


# Secrets


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What make-secrets.sh makes."""
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    subprocess.run([tmp_path / "make-secrets.sh"], check=True, capture_output=True)
    return tmp_path / "secrets"


def test_secrets_are_made_once_and_closed_to_others(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    again = subprocess.run([secrets.parent / "make-secrets.sh"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "already" in again.stderr


def test_every_secret_that_is_used_is_made(secrets: Path) -> None:
    assert all((secrets / Path(secret["file"]).name).is_file() for secret in compose()["secrets"].values())
    made = {line.partition("=")[0] for line in (secrets / "secrets.env").read_text().splitlines()}
    used = {
        env["valueFrom"]["secretKeyRef"]["key"]
        for pod in pods().values()
        for container in pod["spec"]["containers"]
        for env in container.get("env", [])
        if "valueFrom" in env
    }
    used |= {ref["key"] for document in documents("TriggerAuthentication") for ref in document["spec"]["secretTargetRef"]}
    assert used == made


def test_the_service_reads_its_secrets_from_files(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATOMAS_DATABASE_URL", "ATOMAS_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(_secrets_dir=secrets)
    assert (secrets / "postgres_password").read_text() in settings.database_url
    assert (secrets / "redis_password").read_text() in settings.broker_url


# The images


def distributions(group: str) -> set[str]:
    """Everything that installing a dependency group brings, by canonical name, as the environment knows it."""
    waiting = [Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][group]]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            key = (canonical(requirement.name), extra)
            if key in found:
                continue
            try:
                needed = [Requirement(line) for line in requires(requirement.name) or ()]
            except PackageNotFoundError:
                # Of another platform or extra.
                continue
            found.add(key)
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_server_image_installs_no_torch() -> None:
    server_group, encoder_group = distributions("server"), distributions("encoder")
    assert "torch" not in server_group
    assert "torch" in encoder_group
    assert {"grpcio", "celery", "redis", "rdkit", "psycopg-binary"} <= server_group


CLOSED = """
import sys
from importlib.metadata import packages_distributions

allowed = set(sys.argv[1].split(","))
owners = packages_distributions()

class Closed:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        here = {owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(top, ())}
        if here and not here & allowed and "atomas" not in here:
            raise ModuleNotFoundError(f"{name} is not in the server image", name=name)

sys.meta_path.insert(0, Closed())
import deploy.healthcheck, server.__main__, server.rpc.app, server.bootstrap, workers.__main__, workers.process, workers.tasks
import server.adapters.sql.migrate, server.adapters.worker_encoder, server.adapters.celery_queue, server.adapters.qdrant_index, server.adapters.chemistry_pool
import encoder.manifest, encoder.molecules
encoder.molecules.standardise_structure(encoder.molecules.Structure("smiles", "CCO"))
"""


def test_server_and_import_worker_need_nothing_that_the_server_image_lacks() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CLOSED, ",".join(sorted(distributions("server")))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_images_hold_all_code_that_runs_in_them() -> None:
    copied = re.findall(r"^COPY (\S+) (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for source, _ in copied}
    assert {"client/atomas", "encoder", "server", "workers", "migrations", "deploy/healthcheck.py"} <= sources
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / path).exists() for path in let_in)
    assert sources <= let_in
