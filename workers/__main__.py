"""`python -m workers --queues import`: do the background jobs of a fleet, or encode for its servers."""

import argparse
import sys

from server.jobs import QUEUES
from server.observability.logs import report_crashes
from server.program import run_with_settings
from workers.process import run_worker


def main() -> int:
    """Returns the exit code: 0 stopped as asked, 1 the worker could not run, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="A worker of a fleet. `import` reads molecules, `index` encodes them and writes vectors, `encode` answers queries, "
        "`generate` writes molecules and descriptions.",
        epilog="Settings are the server's, from the environment: see `python -m server --help`. Give `encode` a process of its own: next to "
        "`index` a query waits for whole chunks.",
    )
    parser.add_argument("--queues", type=_queues, required=True, help=f"one or more of {', '.join(QUEUES)}, separated by commas")
    queues = parser.parse_args().queues
    return run_with_settings(lambda settings: run_worker(settings, queues))


def _queues(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := set(names) - set(QUEUES):
        raise argparse.ArgumentTypeError(f"there is no queue {', '.join(sorted(unknown))}; there are {', '.join(QUEUES)}")
    if not names:
        raise argparse.ArgumentTypeError("name at least one queue")
    return names


if __name__ == "__main__":
    report_crashes()
    sys.exit(main())
