"""Nothing that is read can run code: no module of pickles is imported anywhere, and the broker carries JSON alone."""

import ast
from pathlib import Path

import pytest

from server.adapters.broker import celery_app
from tests.running import ROOT

PACKAGES = ("client", "server", "workers", "encoder", "migrations", "deploy", "benchmarks")
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def pickles(tree: ast.AST) -> list[str]:
    """Imports of forbidden modules, numpy's and torch's loaders that would unpickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.partition(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {word.arg: word.value for word in node.keywords}
            allowed = given.get("allow_pickle")
            if allowed is not None and not (isinstance(allowed, ast.Constant) and allowed.value is False):
                found.append("allow_pickle")
            if ast.unparse(node.func) == "torch.load":
                found.append("torch.load")
    return found


@pytest.mark.parametrize("source", ["import pickle", "from dill import loads", "numpy.load(f, allow_pickle=True)", "torch.load(path)"])
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert pickles(ast.parse(source))


def test_no_source_imports_or_calls_what_unpickles() -> None:
    assert len(SOURCES) > 100
    found = {str(Path(path).relative_to(ROOT)): names for path in SOURCES if (names := pickles(ast.parse(path.read_text())))}
    assert not found


def test_the_broker_carries_json_alone() -> None:
    configuration = celery_app("redis://127.0.0.1:1/0", 60).conf
    assert configuration.accept_content == ["json"]
    assert configuration.task_serializer == "json"
