"""The audit log's file: whole lines whatever happens to it, and hashes that only the key's holder can compare."""

import errno
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.observability.audit import WAITING_RECORDS, AuditError, AuditLog, kept_key, keyed_hash, read_key


def records(path: Path) -> list[dict[str, int]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_of_many_threads_and_openers_are_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    logs = [AuditLog(str(path)) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: logs[n % 2].write({"n": n, "filling": "ä" * 500}), range(400)))
    assert sorted(record["n"] for record in records(path)) == list(range(400))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_rotated_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path))
    log.write({"n": 1})
    path.rename(tmp_path / "audit.jsonl.1")
    log.write({"n": 2})
    path.unlink()
    log.write({"n": 3})
    assert records(tmp_path / "audit.jsonl.1") == [{"n": 1}]
    assert records(path) == [{"n": 3}]


def test_what_cannot_be_written_waits_and_is_written_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    log = AuditLog(str(folder / "audit.jsonl"))
    log.write({"n": 1})
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    log.write({"n": 2})
    log.write({"n": 3})
    with pytest.raises(AuditError):
        log.require_written()
    folder.mkdir()
    log.require_written()
    log.write({"n": 4})
    assert records(folder / "audit.jsonl") == [{"n": 2}, {"n": 3}, {"n": 4}]


def test_half_a_line_on_a_full_disk_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, room = tmp_path / "audit.jsonl", os.write, 5
    log = AuditLog(str(path))

    def full(file: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "full")
        taken = write(file, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(os, "write", full)
    log.write({"n": 1})
    with pytest.raises(AuditError):
        log.require_written()
    monkeypatch.undo()
    log.write({"n": 2})
    assert records(path) == [{"n": 1}, {"n": 2}]


def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    log = AuditLog(str(folder / "audit.jsonl"))
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    for n in range(WAITING_RECORDS + 10):
        log.write({"n": n})
    folder.mkdir()
    log.require_written()
    assert [record["n"] for record in records(folder / "audit.jsonl")] == list(range(10, WAITING_RECORDS + 10))


def test_an_installation_keeps_its_key_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "audit.key"
    key = kept_key(path)
    assert kept_key(path) == key
    assert kept_key(tmp_path / "another" / "audit.key") != key
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "secret", "00" * 31, "zz" * 32])
def test_a_short_or_unreadable_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_key(text)


def test_the_hash_is_what_openssl_computes(tmp_path: Path) -> None:
    key = kept_key(tmp_path / "audit.key")
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}"]
    run = subprocess.run(command, input="a β-lactam".encode(), capture_output=True, check=True)
    assert keyed_hash(key, "a β-lactam") in run.stdout.decode()
