"""What the programs of the service have in common: settings from the environment, logs, and failures as exit codes."""

import sys
from collections.abc import Callable

from pydantic import ValidationError

from encoder.manifest import CheckpointError
from server.domain.errors import AtomasError
from server.observability import configure_logs
from server.settings import Settings, environment_name


def run_with_settings(work: Callable[[Settings], int]) -> int:
    """Returns the exit code: what the work returns, 0 after an interruption, 1 where it could not be done, 2 for wrong settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"{environment_name(str(problem['loc'][0]))}: {problem['msg']} (it is {problem['input']!r})", file=sys.stderr)
        return 2
    configure_logs(settings.log_level, settings.log_format, settings.log_exception_messages)
    try:
        return work(settings)
    except CheckpointError as error:
        print(f"The model cannot be loaded: {error}", file=sys.stderr)
    except AtomasError as error:
        print(f"{error.reason}: {error.message}", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    return 1
