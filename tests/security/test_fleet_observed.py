"""What a whole fleet shows of itself: nothing confidential in any of it, and everything that the dashboard and the alerts ask for."""

import json
import re
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import urlopen

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from atomas import Client
from deploy.fleet import Fleet, Program
from server.adapters.broker import celery_app
from server.observability.collectors import MemoryCollector
from tests.confidential import NAME, SMILES, TEXT, assert_silent
from tests.faults.fleets import running_fleet
from tests.running import ROOT
from tests.security.otlp_receiver import Received, otlp_receiver
from tests.security.planting import LIBRARY, plant

ALL_QUEUES = "import,index,encode,generate"
# Labels that Prometheus adds when it scrapes.
TARGET_LABELS = {"instance", "job"}


@pytest.fixture(scope="module")
def traces() -> Iterator[Received]:
    with otlp_receiver() as received:
        yield received


@pytest.fixture(scope="module")
def fleet(traces: Received) -> Iterator[Fleet]:
    """A fleet whose one worker takes every queue, with everything turned on that it could say something by; the words went through it."""
    shown = {"metrics_listen": "127.0.0.1:0", "otlp_endpoint": traces.endpoint, "audit_key": "7a" * 32, "encoder_silence_seconds": "30"}
    with running_fleet("redis", workers=(ALL_QUEUES,), log_level="debug", log_format="json", audit_log="stderr", **shown) as running:
        found = re.search(r" and on (\S+/),", (running.folder / "server.out").read_text())
        assert found
        plant(running.address, found[1])
        disturb(running)
        yield running


def disturb(fleet: Fleet) -> None:
    """Messages that no release has ever sent: Celery repeats what it cannot use in its own log."""
    app = celery_app(fleet.broker.url, 600)
    app.send_task("no.such.task", args=[TEXT, SMILES], queue="import")
    app.send_task("import.read_chunk", args=[{NAME: TEXT}, 0], queue="import")
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({NAME: TEXT}, exchange="", routing_key="index", serializer="json")
    app.close()
    [worker] = fleet.workers.values()
    deadline = time.monotonic() + 60
    while "Received and deleted unknown message" not in worker.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)


def programs(fleet: Fleet) -> dict[str, Program]:
    return {"server": fleet.server, "structures": fleet.structures, "worker": next(iter(fleet.workers.values()))}


@pytest.mark.parametrize("name", ["server", "structures", "worker"])
def test_no_process_of_a_fleet_logs_what_was_asked_or_imported(fleet: Fleet, name: str) -> None:
    program = programs(fleet)[name]
    log = program.log.read_text()
    assert_silent(name, log)
    assert_silent(name, (fleet.folder / f"{program.name}.out").read_text())
    # The structure keeper has nothing to say until something goes wrong.
    assert log or name == "structures"
    for line in log.splitlines():
        assert isinstance(json.loads(line), dict), "a line that is no record"


def test_what_celery_cannot_use_is_logged_without_its_content(fleet: Fleet) -> None:
    records = [json.loads(line) for line in programs(fleet)["worker"].log.read_text().splitlines()]
    complaints = [record["event"] for record in records if str(record.get("logger", "")).startswith("celery")]
    assert any("unknown message" in each.lower() for each in complaints)
    assert any("unregistered task" in each.lower() for each in complaints)


def test_audit_records_of_a_fleet_hold_no_word(fleet: Fleet) -> None:
    lines = [json.loads(line) for line in programs(fleet)["server"].log.read_text().splitlines()]
    audited = [line for line in lines if "caller" in line]
    assert {"SearchCompounds", "ImportCompounds", "GenerateMolecules", "ExplainHit"} <= {line["method"] for line in audited}
    assert_silent("audit", json.dumps(audited))


def exposition(fleet: Fleet, program: Program) -> str:
    """What Prometheus is told."""
    found = re.search(r"Metrics on (\S+)\.\n", (fleet.folder / f"{program.name}.out").read_text())
    assert found
    with urlopen(found[1], timeout=30) as answer:
        return str(answer.read().decode())


def test_no_metric_of_a_fleet_holds_a_word_or_a_library(fleet: Fleet) -> None:
    for name, program in programs(fleet).items():
        told = exposition(fleet, program)
        assert "atomas_" in told
        assert_silent(name, told)
        assert LIBRARY not in told


def test_a_search_is_one_trace_through_all_processes_of_a_fleet_and_no_word_is_in_any(fleet: Fleet, traces: Received) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with Client(fleet.address, metadata=lambda: {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}) as client:
        client.search(text=f"{TEXT} never asked before", library=LIBRARY, filter='substructure("CCCl")')
    wanted = {
        ("atomas-server", "atomas.v1.SearchService/SearchCompounds"),
        ("atomas-server", "encoder.encode_texts"),
        ("atomas-server", "index.search_legs"),
        ("atomas-worker-import", "encode.items"),
        ("atomas-worker-import", "encoder.batch"),
        ("atomas-structures", "structures.containing"),
    }
    deadline = time.monotonic() + 60
    found: set[tuple[str, str]] = set()
    while not wanted <= found and time.monotonic() < deadline:
        time.sleep(0.2)
        found = {(service, span.name.removesuffix("_and_phrases")) for service, span in traces.spans() if span.trace_id.hex() == trace}
    assert wanted <= found
    assert_silent("traces", traces.text())


# The dashboard and the alerts


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression that is shipped, with where it stands."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "atomas.json").read_text())
    found = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())]
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    return found + [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


def nodes(expression: Any) -> Iterator[Any]:
    """The expression and all that it is made of."""
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "args"):
        inner = getattr(expression, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, promql_parser.Expr):
                yield from nodes(each)


def asked(expression: str) -> tuple[set[str], set[str]]:
    """Names of the metrics and of the labels in an expression."""
    metrics: set[str] = set()
    labels: set[str] = set()
    # Grafana puts its variables in before it asks.
    for node in nodes(promql_parser.parse(expression.replace("$__rate_interval", "5m"))):
        if isinstance(node, promql_parser.VectorSelector):
            metrics.add(str(node.name))
            labels |= {matcher.name for matcher in node.matchers.matchers}
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            labels |= set(node.modifier.labels)
    return metrics, labels


def gpu_exposition(monkeypatch: pytest.MonkeyPatch) -> str:
    """What a process with a GPU would add."""
    torch = ModuleType("torch")
    memory = SimpleNamespace(total_memory=8)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        memory_allocated=lambda device: 1,
        memory_reserved=lambda device: 2,
        get_device_properties=lambda device: memory,
    )
    torch.cuda = cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    registry = CollectorRegistry()
    registry.register(MemoryCollector())
    return generate_latest(registry).decode()


def test_every_query_of_the_dashboard_and_every_alert_asks_for_what_is_exported(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: dict[str, set[str]] = {}
    for told in [*(exposition(fleet, program) for program in programs(fleet).values()), gpu_exposition(monkeypatch)]:
        for family in text_string_to_metric_families(told):
            for sample in family.samples:
                exported.setdefault(sample.name, set()).update(sample.labels)
    queries = expressions()
    assert len(queries) > 30
    for place, expression in queries:
        metrics, labels = asked(expression)
        assert metrics, place
        for metric in metrics:
            assert metric in exported, f"{place}: nobody exports {metric}"
            unknown = labels - exported[metric] - TARGET_LABELS
            assert not unknown, f"{place}: {metric} has no label {sorted(unknown)}"
    shown = {metric for _, expression in queries for metric in asked(expression)[0]}
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in exported if name.startswith("atomas_")}
    assert families == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown if name.startswith("atomas_")}, (
        "a metric is not shown"
    )


def test_legends_name_labels_that_their_queries_keep() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "atomas.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                kept = asked(target["expr"])[1]
                assert label in kept or not re.match(r"(sum|max|count|histogram)", target["expr"]), panel["title"]


def test_a_wrong_query_would_be_noticed() -> None:
    assert asked('sum by (le, x) (rate(a_total{y="1"}[5m])) / ignoring (z) b') == ({"a_total", "b"}, {"le", "x", "y"})
    with pytest.raises(ValueError, match=r".+"):
        asked("sum by (rate(")


def test_prometheus_scrapes_every_process_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    ours = {name for name, service in services.items() if str(service["image"]).startswith("atomas-")} - {"migrate"}
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    [found] = config["scrape_configs"][0]["dns_sd_configs"]
    assert set(found["names"]) == ours
    for name in ours:
        assert services[name]["environment"]["ATOMAS_METRICS_LISTEN"].endswith(f":{found['port']}")
    for volume in [*services["prometheus"]["volumes"], *services["grafana"]["volumes"]]:
        source = volume.partition(":")[0]
        assert not source.startswith("./") or (ROOT / "deploy" / source).exists(), source


def test_prometheus_is_told_of_every_pod_and_let_in() -> None:
    folder = ROOT / "deploy" / "kubernetes"
    documents = [each for path in folder.glob("*.yaml") for each in yaml.safe_load_all(path.read_text()) if "kind" in each]
    ours = [
        each
        for each in documents
        if each["kind"] in ("Deployment", "StatefulSet") and each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "atomas"
    ]
    stores = {"postgres", "redis", "qdrant"}
    pods = [each["spec"]["template"]["metadata"] for each in ours if each["metadata"]["name"] not in stores]
    assert len(pods) == 6
    for pod in pods:
        assert pod["annotations"]["prometheus.io/scrape"] == "true"
        assert pod["annotations"]["prometheus.io/port"] == "9464"
    [policy] = [each for each in documents if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "metrics"]
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": 9464, "protocol": "TCP"}]
