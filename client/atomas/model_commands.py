"""The commands about models: list them, fill the index of another one, compare, activate, delete."""

from pathlib import Path
from typing import Annotated

import typer

from atomas import OperationState, display
from atomas.console import Address, Json, named, service
from atomas.progress import ReindexBar

models_app = typer.Typer(help="List, compare, activate and delete models.", invoke_without_command=True)
ModelName = Annotated[str, typer.Argument(help="Version of a model, with or without models/.")]


@models_app.callback()
def models(context: typer.Context, address: Address = None, as_document: Json = False) -> None:
    """Show the models behind the vectors."""
    if address is not None:
        context.find_root().obj = address
    if context.invoked_subcommand is not None:
        return
    with service(context, address) as client:
        found = list(client.models())
    display.print_json({"models": [named(model, model.version) for model in found]}) if as_document else display.print_models(found)


def reindex(
    context: typer.Context,
    model: Annotated[Path, typer.Option("--model", metavar="FOLDER", help="The checkpoint, as the server and its workers see it.")],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the fill has begun.")] = False,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Fill the index of another model beside the present one, which goes on answering."""
    with service(context, address) as client:
        operation = client.reindex(model)
        if not no_wait:
            with ReindexBar() as bar:
                operation = client.wait(operation, on_progress=bar)
    if as_document:
        display.print_json(operation)
    elif operation.state is OperationState.SUCCEEDED:
        version = operation.model.rpartition("/")[2]
        display.print_lines(
            [
                f"{operation.model} is ready. Compare its answers by `atomas models compare {version}`, switch by `atomas models activate {version}`."
            ]
        )
    elif not operation.done:
        display.print_lines([f"{operation.model} is being filled; follow it by `atomas operations {operation.id}`."])
    if operation.state is OperationState.CANCELLED:
        display.complain("the fill was cancelled, and what it made is removed.")
        raise typer.Exit(1)


@models_app.command("compare")
def compare(
    context: typer.Context,
    model: ModelName,
    texts: Annotated[list[str] | None, typer.Argument(help="Queries to compare by; names of stored compounds when left out.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits of each query.")] = 10,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Compare what a filled model answers with what the serving one does."""
    with service(context, address) as client:
        found = client.compare_models(model, texts or (), limit=limit)
    display.print_json(found) if as_document else display.print_comparison(found)


@models_app.command("activate")
def activate(context: typer.Context, model: ModelName, address: Address = None, as_document: Json = False) -> None:
    """Let a filled model answer; activating the former one again rolls back."""
    with service(context, address) as client:
        active = client.activate_model(model)
    display.print_json(active) if as_document else display.print_lines([f"{active.resource_name} answers from now on."])


@models_app.command("delete")
def delete(context: typer.Context, model: ModelName, address: Address = None) -> None:
    """Remove the index of a model that does not answer."""
    with service(context, address) as client:
        client.delete_model(model)
    display.print_lines([f"{model} is being removed."])
