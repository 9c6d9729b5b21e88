"""Progress of imports and exports on stderr: a bar where there is a terminal, a line now and then where there is none."""

import sys
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from atomas.types import ExportProgress, ImportProgress, Operation

_LINE_SECONDS = 5.0


class ImportBar:
    """Shows the file being sent, then its rows getting their verdicts. Call it with each ImportProgress; `last` is the latest."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self.last: ImportProgress | None = None
        self._processing = False
        self._next_line = monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was; harmless when done before."""
        self._bar.stop()

    def __call__(self, progress: ImportProgress) -> None:
        self.last = progress
        if self._task is None:
            self._task = self._bar.add_task("Sending", total=None)
        if progress.counts is None:
            self._bar.update(self._task, completed=progress.rows_acknowledged, total=_expected_rows(progress))
            self._line(f"{progress.rows_acknowledged:,} rows sent")
            return
        if not self._processing:
            self._processing = True
            self._bar.update(self._task, completed=progress.rows_sent, total=progress.rows_sent)
            self._task = self._bar.add_task("Indexing", total=progress.rows_sent)
        # A row is done when it is rejected, known already, or can be found.
        done = min(progress.counts.decided, progress.counts.rejected + progress.counts.duplicate + progress.counts.indexed)
        self._bar.update(self._task, completed=done)
        self._line(f"{done:,} of {progress.rows_sent:,} rows done")

    def _line(self, text: str) -> None:
        if self._bar.disable and monotonic() >= self._next_line:
            self._next_line = monotonic() + _LINE_SECONDS
            sys.stderr.write(text + "\n")


class ExportBar:
    """Shows how much of a library was looked at. Call it with each ExportProgress."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("compounds"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Exporting", total=None)
        self._next_line = monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, progress: ExportProgress) -> None:
        self._bar.update(self._task, completed=progress.examined, total=max(progress.total, progress.examined))
        if self._bar.disable and monotonic() >= self._next_line:
            self._next_line = monotonic() + _LINE_SECONDS
            sys.stderr.write(f"{progress.examined:,} of {progress.total:,} compounds looked at, {progress.compounds:,} written\n")


def _expected_rows(progress: ImportProgress) -> int | None:
    """How many rows the file will have held, going by those read so far."""
    if not progress.bytes_read or not progress.total_bytes:
        return None
    return max(progress.rows_sent, round(progress.rows_sent * progress.total_bytes / progress.bytes_read))


class ReindexBar:
    """Shows how far an index is filled. Call it with each look at the operation."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("Filling"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("compounds, {task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, left="")
        self._next_line = monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, operation: Operation) -> None:
        said = operation.reindex
        if said is None:
            return
        left = "" if said.seconds_left is None else f"{timedelta(seconds=round(said.seconds_left))} left"
        self._bar.update(self._task, completed=said.indexed, total=said.compounds, left=left)
        if self._bar.disable and monotonic() >= self._next_line:
            self._next_line = monotonic() + _LINE_SECONDS
            sys.stderr.write(f"{said.indexed:,} of {said.compounds:,} compounds, {left or 'time unknown'}\n")
