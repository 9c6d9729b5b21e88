"""The `atomas` command: starts the command line, or says what to install for it."""

import sys


def main() -> None:
    """Entry point of the console script; exits with 0, 1 (the service said no), 2 (wrong usage) or 130 (interrupted)."""
    try:
        from atomas.commands import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit(f"atomas: the command line needs {error.name}: run `pip install 'atomas[cli]'`.")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
