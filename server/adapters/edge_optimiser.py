"""Builds the search graphs of a copied shard in a process of its own: `python -m server.adapters.edge_optimiser FOLDER PARENT_PID`."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

# Politeness towards the serving process, which shares the cores.
_NICENESS = 10
_PR_SET_PDEATHSIG = 1


def optimise(folder: Path, stopping: Event) -> bool:
    """Optimises the closed shard in the folder; False when `stopping` was set first. Raises RuntimeError with what the child said.

    The engine holds Python's global lock all the while, minutes for 100,000 points, and a forked child of a process that uses it hangs:
    hence a new interpreter. Call from a thread that lives until it returns; the child dies with it.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder.resolve()), str(os.getpid())],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            _, said = child.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            if stopping.is_set():
                child.kill()
    if stopping.is_set():
        return False
    if child.returncode:
        raise RuntimeError(f"the optimiser ended with {child.returncode}: {said.strip()[-500:]}")
    return True


def main(folder: str, parent: int) -> None:
    """The child's work."""
    _die_with(parent)
    os.nice(_NICENESS)
    from qdrant_edge import EdgeShard

    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


def _die_with(parent: int) -> None:
    """An orphan would burn a core for minutes on a copy that nobody wants."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
