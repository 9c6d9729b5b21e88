"""The port of the disk: whether there is room."""

from typing import Protocol


class Storage(Protocol):
    """Room for what is about to be written."""

    def require_free_space(self) -> None:
        """Raises DISK_FULL while something can still be refused cleanly."""
        ...
