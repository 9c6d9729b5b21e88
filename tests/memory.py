"""Where tests keep what nobody reads after them: in memory where there is room, because databases and indexes wait for every small file of a disk."""

import os
import shutil
import tempfile
from pathlib import Path

_SHARED = Path("/dev/shm")
# Several times what a run of the whole suite keeps at once; a container's default of 64 MiB holds not even one database server.
_ROOM_BYTES = 4 << 30

MEMORY = str(_SHARED) if _SHARED.is_dir() and shutil.disk_usage(_SHARED).free >= _ROOM_BYTES else None


def use_for_temporary_files() -> None:
    """Every temporary file of this process and of those that it starts, unless programs cannot run there: an environment is made of them."""
    if MEMORY is not None and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = MEMORY
