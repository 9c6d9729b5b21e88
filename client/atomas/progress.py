"""Progress of imports and exports on stderr: a bar where there is a terminal, a line now and then where there is none."""

import sys
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from atomas.types import ExportProgress, ImportProgress, Operation

_LINE_SECONDS = 5.0


class _Bar:
    """A bar of what is counted, in `units`; ends with its `with` block."""

    def __init__(self, units: str, *more: ProgressColumn) -> None:
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn(units),
            *more,
            console=console,
            disable=not console.is_terminal,
        )
        self._next_line = monotonic() + _LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was; harmless when done before."""
        self._bar.stop()

    def _line(self, text: str) -> None:
        """What stands for the bar where there is no terminal."""
        if self._bar.disable and monotonic() >= self._next_line:
            self._next_line = monotonic() + _LINE_SECONDS
            sys.stderr.write(text + "\n")


class ImportBar(_Bar):
    """Shows the file being sent, then its rows getting their verdicts. Call it with each ImportProgress; `last` is the latest."""

    def __init__(self) -> None:
        super().__init__("rows", TimeElapsedColumn())
        self._task: TaskID | None = None
        self.last: ImportProgress | None = None
        self._processing = False

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


class ExportBar(_Bar):
    """Shows how much of a library was looked at. Call it with each ExportProgress."""

    def __init__(self) -> None:
        super().__init__("compounds", TimeElapsedColumn())
        self._task = self._bar.add_task("Exporting", total=None)

    def __call__(self, progress: ExportProgress) -> None:
        self._bar.update(self._task, completed=progress.examined, total=max(progress.total, progress.examined))
        self._line(f"{progress.examined:,} of {progress.total:,} compounds looked at, {progress.compounds:,} written")


class ReindexBar(_Bar):
    """Shows how far an index is filled. Call it with each look at the operation."""

    def __init__(self) -> None:
        super().__init__("compounds, {task.fields[left]}")
        self._task = self._bar.add_task("Filling", total=None, left="")

    def __call__(self, operation: Operation) -> None:
        said = operation.reindex
        if said is None:
            return
        left = "" if said.seconds_left is None else f"{timedelta(seconds=round(said.seconds_left))} left"
        self._bar.update(self._task, completed=said.indexed, total=said.compounds, left=left)
        self._line(f"{said.indexed:,} of {said.compounds:,} compounds, {left or 'time unknown'}")


def _expected_rows(progress: ImportProgress) -> int | None:
    """How many rows the file will have held, going by those read so far."""
    if not progress.bytes_read or not progress.total_bytes:
        return None
    return max(progress.rows_sent, round(progress.rows_sent * progress.total_bytes / progress.bytes_read))
