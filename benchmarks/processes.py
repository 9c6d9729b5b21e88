"""What process trees use, read from /proc: processor time and memory."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Sums over some processes."""

    # Since their start, ended and awaited children included.
    cpu_seconds: float = 0.0
    # Memory of their own, without mapped files.
    anonymous_bytes: int = 0
    # With the mapped files that are in memory; what processes share counts for each.
    resident_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.cpu_seconds + other.cpu_seconds,
            self.anonymous_bytes + other.anonymous_bytes,
            self.resident_bytes + other.resident_bytes,
        )


def children() -> dict[int, list[int]]:
    """Parent -> children, of all processes now."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def descendants(pid: int, known: dict[int, list[int]]) -> list[int]:
    """Below the process, itself left out."""
    below = list(known.get(pid, ()))
    for child in below:
        below.extend(known.get(child, ()))
    return below


def usage(pids: list[int]) -> Usage:
    """Of those that still run."""
    return sum((_usage(pid) for pid in pids), Usage())


def _usage(pid: int) -> Usage:
    fields = _stat(pid)
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return Usage()
    if not fields or "VmRSS" not in status:
        return Usage()
    kilobytes = {name: int(status[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssShmem")}
    # utime, stime, and both of the children that it has waited for.
    return Usage(sum(map(int, fields[11:15])) / _TICKS, (kilobytes["RssAnon"] + kilobytes["RssShmem"]) * 1024, kilobytes["VmRSS"] * 1024)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    # The name before may hold anything.
    return text.rpartition(")")[2].split()
