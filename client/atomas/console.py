"""What every command shares: where the service is, whether the answer is JSON, and a client whose failures end the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from atomas import Client, display
from atomas.codec import as_json
from atomas.errors import AtomasError, InternalError

Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="Where the service listens; else ATOMAS_ADDRESS, else 127.0.0.1:50051.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@contextmanager
def service(context: typer.Context, address: str | None) -> Iterator[Client]:
    """A client whose failures end the command with one line on stderr."""
    try:
        with Client(address or context.find_root().obj) as client:
            yield client
    except KeyboardInterrupt:
        display.complain("interrupted.")
        raise typer.Exit(130) from None
    except InternalError as error:
        display.complain(f"{error.message} (request {error.request_id or 'unknown'})")
        raise typer.Exit(1) from None
    except AtomasError as error:
        display.complain(error.message)
        raise typer.Exit(1) from None


def document(value: Any) -> dict[str, Any]:
    """A value as a JSON object."""
    said = as_json(value)
    return said if isinstance(said, dict) else {}


def named(value: Any, identifier: str) -> dict[str, Any]:
    """As `document`, with the id by which commands name it."""
    return {"id": identifier, **document(value)}
