"""`python -m workers --queues import`: do the background jobs of a fleet, or encode for its servers."""

import argparse
import sys

from pydantic import ValidationError

from encoder.manifest import CheckpointError
from server.domain.errors import AtomasError
from server.jobs import QUEUES
from server.observability import configure_logs
from server.observability.logs import report_crashes
from server.settings import Settings, environment_name
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
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"{environment_name(str(problem['loc'][0]))}: {problem['msg']} (it is {problem['input']!r})", file=sys.stderr)
        return 2
    configure_logs(settings.log_level, settings.log_format, settings.log_exception_messages)
    try:
        return run_worker(settings, queues)
    except AtomasError as error:
        print(f"{error.reason}: {error.message}", file=sys.stderr)
        return 1
    except CheckpointError as error:
        print(f"The model cannot be loaded: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


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
