"""Refuse new work while a full disk can still be refused cleanly."""

import shutil
from pathlib import Path

from server.domain.errors import AtomasError, Reason


class DiskSpace:
    """The `Storage` port: looks at the disk that holds a folder."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    def require_free_space(self) -> None:
        """Raises DISK_FULL with less than `min_free_bytes` left: past that point the engine of the index would crash the process."""
        free = shutil.disk_usage(self._folder).free
        if free < self._min_free_bytes:
            raise AtomasError(
                Reason.DISK_FULL,
                f"Only {free / 2**20:.0f} MiB are free on the disk of {self._folder}, and {self._min_free_bytes / 2**20:.0f} MiB are kept back: "
                "free some space, then try again.",
            )


class NoLocalStorage:
    """The `Storage` port of a process that writes to servers alone: they say themselves when their disks are full."""

    def require_free_space(self) -> None:
        """Nothing is written here."""
