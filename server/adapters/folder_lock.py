"""One process per data folder."""

import fcntl
import os
import pathlib

from server.domain.errors import AtomasError, Reason


class FolderLock:
    """Holds a folder until closed; the operating system lets go of it when the process dies, however it dies."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Creates the folder when it is missing. Raises DATA_DIR_IN_USE when another process holds it or it cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "lock").open("a+")
        except OSError as error:
            raise AtomasError(
                Reason.DATA_DIR_IN_USE,
                f"The data folder {folder} cannot be used: {error.strerror}. Set ATOMAS_DATA_DIR to a folder you may write.",
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise AtomasError(
                Reason.DATA_DIR_IN_USE,
                f"Another process (pid {owner}) uses the data folder {folder}. Stop it, or set ATOMAS_DATA_DIR to another folder.",
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Lets go of the folder."""
        self._file.close()
