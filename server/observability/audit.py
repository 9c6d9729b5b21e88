"""The audit log: who asked for what, when, and with which outcome, one JSON object a line; of queries only keyed hashes."""

import hashlib
import hmac
import json
import os
import secrets
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from server.observability.metrics import AUDIT_FAILURES

log = structlog.get_logger(__name__)

STDERR = "stderr"
# Records that are kept while they cannot be written.
WAITING_RECORDS = 1_000
_KEY_BYTES = 32


class AuditError(Exception):
    """Records could not be written, and wait."""


class AuditLog:
    """Appends whole lines, each with one write, so that several processes may share a file; a file that was moved away is begun anew.

    Thread-safe. A record that cannot be written waits for the next one; the oldest of too many are lost, and counted.
    """

    def __init__(self, place: str) -> None:
        """`place` is a path or `stderr`. Raises OSError when the file cannot be opened."""
        self._path = None if place == STDERR else Path(place)
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._file = -1
        self._opened()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record; one that cannot be written waits."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._waiting.append(line)
            if error := self._flush():
                AUDIT_FAILURES.inc()
                del self._waiting[:-WAITING_RECORDS]
                log.error("an audit record could not be written, and waits", waiting=len(self._waiting), errno=error.errno)

    def require_written(self) -> None:
        """Tries again what waits. Raises AuditError while anything does."""
        if self._waiting:
            with self._lock:
                if self._flush():
                    raise AuditError

    def close(self) -> None:
        """Nothing is written from here on."""
        with self._lock:
            if self._path is not None and self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _flush(self) -> OSError | None:
        try:
            while self._waiting:
                line = self._waiting[0]
                written = os.write(self._opened(), line)
                if written < len(line):
                    # A full disk took half a line: the rest of it comes with the next attempt.
                    self._waiting[0] = line[written:]
                    continue
                del self._waiting[0]
        except OSError as error:
            return error
        return None

    def _opened(self) -> int:
        """The file's descriptor, which is the one that the path names now: rotation moves files away."""
        if self._path is None:
            return sys.stderr.fileno()
        if self._file >= 0:
            try:
                named, ours = os.stat(self._path), os.fstat(self._file)
                if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                    return self._file
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = -1
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file


def keyed_hash(key: bytes, text: str) -> str:
    """HMAC-SHA256 as 64 hexadecimal digits: equal for equal texts, and nothing that a dictionary finds without the key."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def kept_key(path: Path) -> bytes:
    """The key of this installation, made when there is none yet. Raises OSError, ValueError for a file that holds no key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
    except FileExistsError:
        pass
    return read_key(path.read_text())


def read_key(text: str) -> bytes:
    """A key of at least 32 bytes, from hexadecimal digits. Raises ValueError."""
    key = bytes.fromhex(text.strip())
    if len(key) < _KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes, and needs at least {_KEY_BYTES}")
    return key
