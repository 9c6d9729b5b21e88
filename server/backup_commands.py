"""Commands that copy what a service keeps and put it back: `python -m server backup` and `restore`, of an embedded service or a fleet."""

import argparse
import shutil
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from server.domain.errors import AtomasError, Reason
from server.settings import Settings

# In the data folder, of indexes that are not on a server of their own.
_INDEX_FOLDERS = ("index", "structures")


def add_backup_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Each sets `run`."""
    backup = commands.add_parser(
        "backup",
        help="copy everything that is stored into a new folder, also while the service runs",
        description="Copies the database as it is at one moment, whoever writes meanwhile; of an embedded service that is stopped, its indexes too. "
        "The copy is complete when the folder has its name.",
    )
    backup.add_argument("folder", type=Path, help="does not exist yet")
    backup.set_defaults(run=_backup)
    restore = commands.add_parser(
        "restore",
        help="put a backup into an empty service, whatever kind of service it is of",
        description="All or nothing. An embedded service must be stopped; its indexes are filled from the database where the backup has none. "
        "Workers of a fleet fill them as soon as they run.",
    )
    restore.add_argument("folder", type=Path, help="what `backup` made")
    restore.add_argument("--check", action="store_true", help="only read the backup and compare it with its checksums")
    restore.add_argument(
        "--keep-indexes",
        action="store_true",
        help="the indexes are here or come from snapshots: do not fill them; `verify --repair` then mends what they lack",
    )
    restore.set_defaults(run=_restore)


def _backup(settings: Settings, options: argparse.Namespace) -> int:
    from server.adapters.backup_folder import BackupWriter
    from server.adapters.folder_lock import FolderLock
    from server.adapters.sql.copying import snapshot

    if not settings.database_url and not (settings.data_dir / "atomas.sqlite3").exists():
        raise AtomasError(Reason.INVALID_ARGUMENT, f"{settings.data_dir} holds no service's data. Set ATOMAS_DATA_DIR.")
    writer = BackupWriter(options.folder)
    with ExitStack() as stack:
        stack.callback(writer.discard)
        indexes: tuple[str, ...] = ()
        if not settings.broker_url and settings.data_dir.exists():
            # Nobody writes to the indexes while the lock is held; those of a service at work are filled again at the restoring.
            with suppress(AtomasError):
                stack.callback(FolderLock(settings.data_dir).close)
                indexes = tuple(name for name in _INDEX_FOLDERS if (settings.data_dir / name).exists())
        with snapshot(settings.sql_url) as taken:
            moment = datetime.now(UTC)
            rows = {name: writer.add_table(name, lines) for name, lines in taken.tables}
        for name in indexes:
            writer.add_folder(settings.data_dir / name, name)
        writer.finish(moment, taken.revision, indexes)
    print(f"{options.folder} holds {rows['libraries']:,} libraries, {rows['compounds']:,} compounds, {_indexes_said(indexes)}.")
    print("Restore it into an empty service by `python -m server restore`.")
    return 0


def _indexes_said(indexes: tuple[str, ...]) -> str:
    return "and the indexes" if indexes else "no indexes: they are filled again after a restoring"


def _restore(settings: Settings, options: argparse.Namespace) -> int:
    from server.adapters.backup_folder import Backup
    from server.adapters.folder_lock import FolderLock
    from server.adapters.sql.copying import put_back, require_empty

    backup = Backup(options.folder)
    backup.check()
    said = f"{backup.rows('libraries'):,} libraries, {backup.rows('compounds'):,} compounds as of {backup.contents.create_time:%Y-%m-%d %H:%M:%S} UTC"
    if options.check:
        print(f"{options.folder} is whole: {said}.")
        return 0
    embedded = not settings.broker_url
    # The folders of the indexes count where the indexes will be in them.
    whole = embedded and bool(backup.contents.indexes) and not (settings.qdrant_url or settings.structures_url or options.keep_indexes)
    with ExitStack() as stack:
        if embedded:
            stack.callback(FolderLock(settings.data_dir).close)
        require_empty(settings.sql_url)
        if embedded and not options.keep_indexes:
            for name in _INDEX_FOLDERS:
                shutil.rmtree(settings.data_dir / name, ignore_errors=True)
                if whole:
                    backup.copy_folder(name, settings.data_dir / name)
        # At the end, and at once: whatever stops this before leaves an empty service, into which it can be restored again.
        put_back(settings.sql_url, backup.contents.revision, backup.tables, indexed=whole or options.keep_indexes)
    print(f"Restored: {said}.", flush=True)
    if options.keep_indexes:
        print("What the indexes lack, or have too much, is mended by `python -m server verify --repair`.")
    elif not embedded:
        print("Workers fill the indexes as soon as they run; until then `python -m server verify` counts compounds as waiting.")
    elif not whole:
        _fill(settings)
    return 0


def _fill(settings: Settings) -> None:
    from server.bootstrap import maintenance
    from server.usecases.fill_indexes import fill_indexes

    with maintenance(settings) as ports:
        left = fill_indexes(ports, lambda index, count: print(f"{index}: {count:,} compounds", file=sys.stderr, flush=True))
    if left:
        print(f"{left:,} compounds could not be indexed in one piece with others; the service does it when it runs.")
    print("The indexes are filled.")
