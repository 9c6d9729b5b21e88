"""The ingest benchmark: what it makes of its samples, and that it holds rows back."""

import gzip
import json
import os
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ingest_fleet import WINDOW_ROWS, Feed, summarise
from benchmarks.processes import children, descendants, usage


def sample(seconds: float, finished: int, server_bytes: int = 10**8) -> dict[str, Any]:
    """As the sampler writes it: every row costs 1 ms of chemistry and 1 ms of SQL in the database."""
    names = ("postgresql", "broker", "index", "structures", "server", "worker-import", "worker-index", "worker-encode", "chemistry")
    processes = {name: {"cpu_seconds": 5.0, "anonymous_bytes": 10**8, "resident_bytes": 10**8} for name in names}
    for name in ("chemistry", "postgresql"):
        processes[name]["cpu_seconds"] += finished / 1000
    processes["server"]["anonymous_bytes"] = server_bytes
    return {
        "seconds": seconds,
        "received": finished,
        "finished": finished,
        "rejected": 0,
        "processes": processes,
        "stages": {"import": {}, "index": {}},
    }


def told(samples: list[dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in samples))
    summarise(path)
    return capsys.readouterr().out


def test_a_steady_rate_is_flat_and_stages_share_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told([sample(second, second * 100) for second in range(101)], tmp_path, capsys)
    assert "last tenth / first 1.00 (aim 0.8); median 100 rows/s" in out
    assert "rows per CPU second, last tenth / first 1.00" in out
    assert "chemistry        10.0  50.0%           1,000" in out
    assert "GROWS" not in out


def test_a_rate_that_falls_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 100 rows a second, then 50.
    samples = [sample(second, min(second, 50) * 100 + max(second - 50, 0) * 50) for second in range(101)]
    out = told(samples, tmp_path, capsys)
    assert "last tenth / first 0.50 (aim 0.8); median" in out
    # Somebody else had the processors: a row costs what it cost.
    assert "rows per CPU second, last tenth / first 1.00" in out


def test_rows_that_cost_ever_more_are_told_though_the_rate_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [sample(second, second * 100) for second in range(101)]
    for one in samples:
        one["processes"]["structures"]["cpu_seconds"] += 1e-7 * one["finished"] ** 2
    out = told(samples, tmp_path, capsys)
    assert "last tenth / first 1.00 (aim 0.8)" in out
    lines = {line.split()[0]: line.split()[-10::9] for line in out.splitlines() if line.startswith("  ")}
    assert (lines["structures"], lines["chemistry"], lines["all"]) == (["0.12", "1.90"], ["1.00", "1.00"], ["2.12", "3.90"])
    assert "rows per CPU second, last tenth / first 0.54; with chemistry as the clock 0.54" in out


def test_a_machine_that_slows_down_is_not_taken_for_a_fleet_that_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [sample(second, second * 100) for second in range(101)]
    for one in samples:
        for name in ("chemistry", "postgresql"):
            one["processes"][name]["cpu_seconds"] += 1e-7 * one["finished"] ** 2
    out = told(samples, tmp_path, capsys)
    assert "rows per CPU second, last tenth / first 0.39; with chemistry as the clock 1.00" in out


def test_memory_that_goes_on_growing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told([sample(second, second * 100, server_bytes=10**8 + second * 10**7) for second in range(101)], tmp_path, capsys)
    [line] = [line for line in out.splitlines() if line.startswith("server")]
    assert line.endswith("GROWS")


def test_too_little_work_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(sample(second, 500)) + "\n" for second in range(5)))
    with pytest.raises(SystemExit, match="too little work"):
        summarise(path)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.tsv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("smiles\tsource\n" + "".join(f"{'C' * (i % 9 + 1)}\tmade\n" for i in range(WINDOW_ROWS + 10)))
    return path


def test_rows_wait_until_others_are_finished(corpus: Path) -> None:
    feed = Feed(corpus, 0, 0)
    rows = iter(feed)
    assert next(rows) == "C"
    assert len(list(islice(rows, WINDOW_ROWS - 1))) == WINDOW_ROWS - 1
    came = threading.Event()

    def wait() -> None:
        next(rows)
        came.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not came.wait(0.2)
    feed.finished(1)
    assert came.wait(10)


def test_rows_end_when_asked_or_when_the_time_is_over(corpus: Path) -> None:
    assert len(list(Feed(corpus, 7, 0))) == 7
    assert list(Feed(corpus, 0, 1e-9)) == []


def test_a_process_uses_what_it_uses() -> None:
    held = bytearray(50 << 20)
    mine = usage([os.getpid()])
    assert mine.anonymous_bytes > len(held)
    assert mine.resident_bytes >= mine.anonymous_bytes
    assert mine.cpu_seconds > 0
    assert os.getpid() in descendants(os.getppid(), children())
    assert usage([2**22 + 1]).resident_bytes == 0
