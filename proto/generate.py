"""Generates the client's stubs from the contract with a pinned protoc, or proves the committed ones fresh (`--check`)."""

import argparse
import filecmp
import importlib.resources
import pathlib
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent
STUBS = ROOT.parent / "client" / "atomas" / "v1"
BASELINE = ROOT / "baseline.binpb"


def generate(target: pathlib.Path) -> pathlib.Path:
    """Write stubs for every contract file below `target`; returns the folder that holds them."""
    includes = importlib.resources.files(grpc_tools) / "_proto"
    googleapis = pathlib.Path(next(p for p in sys.path if (pathlib.Path(p) / "google" / "api" / "resource.proto").exists()))
    files = sorted(str(f.relative_to(ROOT)) for f in (ROOT / "atomas" / "v1").glob("*.proto"))
    arguments = [f"-I{ROOT}", f"-I{includes}", f"-I{googleapis}"]
    arguments += [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    # The plugins of this very environment, wherever PATH points.
    arguments += [
        f"--plugin=protoc-gen-{kind}={pathlib.Path(sys.executable).parent / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")
    ]
    arguments += [f"--descriptor_set_out={target / 'contract.binpb'}"]
    if protoc.main(["protoc", *arguments, *files]) != 0:
        raise SystemExit("protoc refused the contract; its message is above.")
    return target / "atomas" / "v1"


def main() -> None:
    """Regenerate, or compare with what is committed and say what to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed stubs differ")
    parser.add_argument("--baseline", action="store_true", help="accept the present contract as the compatibility baseline (at a release)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(pathlib.Path(folder))
        names = sorted(p.name for p in fresh.iterdir())
        if options.check:
            _, differing, missing = filecmp.cmpfiles(fresh, STUBS, names, shallow=False)
            stale = {p.name for p in STUBS.glob("*_pb2*")} - set(names)
            if differing or missing or stale:
                raise SystemExit(f"The stubs are not fresh: {sorted({*differing, *missing, *stale})}. Run `make proto` and commit.")
            return
        STUBS.mkdir(parents=True, exist_ok=True)
        for old in STUBS.glob("*_pb2*"):
            old.unlink()
        for name in names:
            (STUBS / name).write_bytes((fresh / name).read_bytes())
        (STUBS / "__init__.py").touch()
        if options.baseline or not BASELINE.exists():
            BASELINE.write_bytes((pathlib.Path(folder) / "contract.binpb").read_bytes())


if __name__ == "__main__":
    main()
