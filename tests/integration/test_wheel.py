"""The built wheel in empty environments: what it brings, that it works, that its lower bounds are true."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scripted_service import RunningService, compound

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The three that the client names, and what they need in turn.
ALLOWED = {"atomas", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the source tree."""
    source = tmp_path_factory.mktemp("source")
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copytree(ROOT / "client", source / "client", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist"), str(source))
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture
def service() -> Iterator[RunningService]:
    with RunningService() as running:
        yield running


def run(*command: str, **environment: str) -> str:
    """Standard output of a command that has to succeed, run away from the source tree."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd="/", env={**kept, **environment})
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment_with(folder: Path, *requirements: str) -> Path:
    """The bin folder of an environment that holds these and nothing else."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-cache-dir", *requirements)
    return folder / "bin"


def installed(binaries: Path) -> dict[str, str]:
    listed = run(sys.executable, "-m", "pip", "--python", str(binaries / "python"), "list", "--format", "json")
    return {package["name"].lower().replace("_", "-"): package["version"] for package in json.loads(listed)}


def lower_bounds(requirements: list[str]) -> list[str]:
    return [requirement.replace(">=", "==") for requirement in requirements]


def readme_example() -> str:
    example = re.search(r"```python\n(.*?)```", (ROOT / "client" / "README.md").read_text(), re.DOTALL)
    assert example is not None
    return example[1]


def test_the_wheel_brings_nothing_heavy_and_its_readme_example_runs(wheel: Path, tmp_path: Path, service: RunningService) -> None:
    binaries = environment_with(tmp_path / "empty", str(wheel))
    assert set(installed(binaries)) <= ALLOWED
    out = run(str(binaries / "python"), "-I", "-c", readme_example(), ATOMAS_ADDRESS=service.address)
    assert "1 1.0 compound 1 CCO" in out
    assert "2 created, 0 rejected" in out
    loaded = run(str(binaries / "python"), "-I", "-c", "import atomas, sys; print(atomas.__version__, *sys.modules)").split()
    assert loaded[0] == PROJECT["version"]
    assert not {"torch", "rdkit", "numpy", "typer", "rich", "pyarrow"} & set(loaded)
    refused = subprocess.run([binaries / "atomas", "models"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "pip install 'atomas[cli]'" in refused.stderr


def test_the_lower_bounds_of_the_requirements_are_true(wheel: Path, tmp_path: Path, service: RunningService) -> None:
    oldest = lower_bounds([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]])
    binaries = environment_with(tmp_path / "oldest", f"{wheel}[cli]", *oldest)
    versions = installed(binaries)
    for requirement in oldest:
        name, _, version = requirement.partition("==")
        assert versions[name].startswith(version)
    service.service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "ethanol")
    run(str(binaries / "python"), "-I", "-c", readme_example(), ATOMAS_ADDRESS=service.address)
    assert "ethanol" in run(str(binaries / "atomas"), "get", "lib/KEY", ATOMAS_ADDRESS=service.address)
    assert "Usage" in run(str(binaries / "atomas"), "search", "--help")
    stubs = "from atomas.v1 import library_service_pb2_grpc, search_service_pb2_grpc, model_service_pb2_grpc, embedding_service_pb2_grpc"
    run(str(binaries / "python"), "-I", "-c", stubs)


def test_importing_the_client_from_the_source_tree_loads_nothing_heavy() -> None:
    program = "import sys; import atomas; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in run(sys.executable, "-c", program).split()}
    assert not {"torch", "rdkit", "numpy", "typer", "rich", "pyarrow", "server", "encoder", "workers"} & loaded
