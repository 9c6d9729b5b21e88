"""The commands about API keys: create, list, revoke."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from atomas import display
from atomas.console import Address, Json, document, service

keys_app = typer.Typer(help="Create, list and revoke API keys; needs a key with -:admin.", no_args_is_help=True)


@keys_app.command("create")
def create(
    context: typer.Context,
    scopes: Annotated[list[str], typer.Option("--scope", metavar="LIBRARY:LEVEL", help="Such as chebi:read or -:admin; may be repeated.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    days: Annotated[float | None, typer.Option(min=0, help="Until it expires; never when left out.")] = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Make a key and print its secret, this once."""
    asked = {}
    for scope in scopes:
        library, colon, level = scope.rpartition(":")
        if not colon:
            raise typer.BadParameter(f"{scope!r} is no scope: write LIBRARY:read, LIBRARY:write or LIBRARY:admin, - for all libraries.")
        asked[library] = level
    expire_time = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with service(context, address) as client:
        made = client.create_api_key(asked, name=name, expire_time=expire_time)
    display.print_json({**document(made.key), "secret": made.secret}) if as_document else display.print_lines([made.secret])


@keys_app.command("list")
def show(context: typer.Context, address: Address = None, as_document: Json = False) -> None:
    """Show every key, the revoked ones too, without secrets."""
    with service(context, address) as client:
        found = list(client.api_keys())
    if as_document:
        display.print_json({"keys": [document(key) for key in found]})
        return
    lines = []
    for key in found:
        expired = key.expire_time is not None and key.expire_time <= datetime.now(UTC)
        state = "revoked" if key.revoke_time else "expired" if expired else "valid"
        scopes = " ".join(f"{library}:{level.lower()}" for library, level in key.scopes.items())
        lines.append(f"{key.prefix}  {state}  {scopes}  {key.name}".rstrip())
    display.print_lines(lines)


@keys_app.command("revoke")
def revoke(
    context: typer.Context, prefix: Annotated[str, typer.Argument(help="The part of the secret after atk_.")], address: Address = None
) -> None:
    """End a key at once."""
    with service(context, address) as client:
        client.revoke_api_key(prefix)
    display.print_lines([f"{prefix} is revoked."])
