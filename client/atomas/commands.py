"""The commands of the command line; every failure is one line on stderr and an exit code."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import atomas
from atomas import Client, Compound, Format, Hit, OperationState, SearchResult, Target, display
from atomas.calls import SearchOptions
from atomas.console import Address, Json, document, named, service
from atomas.errors import NotFoundError
from atomas.explain_command import explain
from atomas.generate_commands import describe, generate
from atomas.key_commands import keys_app
from atomas.model_commands import models_app, reindex
from atomas.progress import ExportBar, ImportBar
from atomas.writers import CompoundFile

_MAX_INPUT_BYTES = 1024 * 1024

app = typer.Typer(
    name="atomas", help="Search molecules by words and words by molecules.", no_args_is_help=True, pretty_exceptions_enable=False
)
libraries_app = typer.Typer(help="List, create and delete libraries.", invoke_without_command=True)
app.add_typer(libraries_app, name="libraries")
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.command("reindex")(reindex)
app.command("explain")(explain)
app.command("generate")(generate)
app.command("describe")(describe)

LibraryName = Annotated[str | None, typer.Option("--library", "-l", metavar="NAME", help="Id of a library, with or without libraries/.")]


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        app(args=arguments, prog_name="atomas")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        display.complain("interrupted.")
        return 130
    except Exception as error:
        # A fault of this program. The traceback would help nobody who sees it here.
        display.complain(f"this should not have happened ({type(error).__name__}: {error}); please report it.")
        return 1
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        display.print_lines([f"atomas {atomas.__version__}"])
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    address: Address = None,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    context.obj = address


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="SMILES, SDF, CSV, TSV, JSON Lines or Parquet; also .gz and .zip.")],
    library: Annotated[str, typer.Option("--library", "-l", metavar="NAME", help="Library to import into; made when it is missing.")],
    format: Annotated[Format, typer.Option(help="Format of the file; by its name and content when left out.")] = Format.AUTO,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the rejected rows and their reasons here, as JSON Lines.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once every row is safe, before it can be searched.")] = False,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Import a file of compounds."""
    if rejects is not None and no_wait:
        raise typer.BadParameter(
            "with --no-wait the rejected rows are not known yet; see them later by `atomas operations NAME --rejects`."
        )
    with service(context, address) as client:
        with ImportBar() as bar:
            try:
                report = client.import_compounds(file, library, format=format, wait=not no_wait, on_progress=bar)
            except KeyboardInterrupt:
                bar.stop()
                if bar.last is not None and bar.last.rows_acknowledged:
                    display.complain(
                        f"interrupted; {bar.last.rows_acknowledged:,} rows are safe, follow them by `atomas operations {bar.last.operation}`."
                    )
                    raise typer.Exit(130) from None
                raise
        if rejects is not None:
            _write_rejections(client, report.operation, rejects)
        if as_document:
            display.print_json(report)
        elif no_wait:
            display.print_lines(
                [f"{report.rows:,} rows are safe in {report.library}; follow them by `atomas operations {report.operation}`."]
            )
        else:
            display.print_lines([display.summary(report)])
            if report.counts.rejected and rejects is None:
                display.print_lines([f"See the rejected rows by `atomas operations {report.operation} --rejects`."])
        if report.state is OperationState.CANCELLED:
            display.complain("the import was cancelled; what it had done stays.")
            raise typer.Exit(1)


@app.command("export")
def export_file(
    context: typer.Context,
    library: Annotated[str, typer.Argument(help="Id of the library.")],
    file: Annotated[Path, typer.Argument(help="Ends in .sdf, .smi, .csv, .jsonl or .parquet; with .gz to pack it.")],
    format: Annotated[Format, typer.Option(help="Format of the file; by its name when left out.")] = Format.AUTO,
    filter: Annotated[str, typer.Option(help="Only compounds that meet these conditions, as in searches.")] = "",
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Write a library's compounds into a file; importing it gives the same compounds again (SMILES files hold structure, id and name)."""
    with service(context, address) as client, CompoundFile(file, format) as written, ExportBar() as bar:
        for compound in client.export(library, filter=filter, molblocks=written.format is Format.SDF, on_progress=bar):
            written.write(compound)
    if as_document:
        display.print_json({"file": str(file), "format": written.format, "compounds": written.written})
    else:
        display.print_lines([f"{written.written:,} compounds of {library} in {file}."])


@app.command()
def search(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="Words, a name, an id, an InChIKey, a SMILES or an InChI; it is recognised.")] = None,
    text: Annotated[str | None, typer.Option(metavar="WORDS", help="Search by these words, whatever else they may look like.")] = None,
    smiles: Annotated[str | None, typer.Option(help="Search by this structure instead.")] = None,
    structure_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Search by the molfile, SMILES or InChI in this file.")
    ] = None,
    compound: Annotated[str | None, typer.Option(metavar="COMPOUND", help="Search by a stored compound, LIBRARY/INCHIKEY.")] = None,
    batch: Annotated[Path | None, typer.Option(metavar="FILE", help="Search by every line of this file, all at once.")] = None,
    library: Annotated[
        list[str] | None, typer.Option("--library", "-l", metavar="NAME", help="Id of a library; repeat it for several.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of hits.")] = 10,
    filter: Annotated[
        str, typer.Option(help="Such as 'molecular_weight < 500 AND substructure(\"c1ccncc1\")'; alone it lists what meets it.")
    ] = "",
    target: Annotated[Target, typer.Option(help="What to compare with instead of what suits the query.")] = Target.BOTH,
    weight: Annotated[
        list[str] | None, typer.Option(metavar="LEG=NUMBER", help="Weight of a way of searching, such as lexical=0; repeat it for several.")
    ] = None,
    ids_only: Annotated[bool, typer.Option("--ids-only", help="Only the hits' resource names.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the hits into this file, .sdf, .smi, .csv, .jsonl or .parquet.")
    ] = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Search by words, a name, an id, a structure, or a stored compound; all libraries unless some are named."""
    asked = sum(given is not None for given in (query, text, smiles, structure_file, compound, batch))
    if asked > 1 or (not asked and not filter):
        raise typer.BadParameter(
            "give exactly one of QUERY, --text, --smiles, --structure-file, --compound and --batch, or --filter alone."
        )
    if out is not None and (ids_only or batch is not None):
        raise typer.BadParameter("--out writes the whole compounds of one search; leave --ids-only and --batch out.")
    options = SearchOptions(filter=filter, target=target, ids_only=ids_only, weights=_weights(weight or []))
    if library and len(library) > 1:
        options["libraries"] = library
    else:
        options["library"] = library[0] if library else None
    if text is not None:
        options["text"] = text
    elif smiles is not None:
        options["smiles"] = smiles
    elif structure_file is not None:
        options["structure"] = _read_text(structure_file)
    elif compound is not None:
        options["compound"] = compound
    with service(context, address) as client:
        if batch is not None:
            _search_lines(client, batch, limit, options, as_document)
            return
        if out is not None:
            _write_hits(client, query, limit, options, out)
            return
        found = client.search(query, limit=limit, **options)
    if as_document:
        display.print_json(_answer(found, ids_only))
        return
    _print_answer(found, ids_only)
    if not found:
        display.complain("no hits.")
    elif found.no_good_match:
        display.complain("these hits match no better than they would match a query without meaning.")


@app.command()
def similar(
    context: typer.Context,
    structure: Annotated[str, typer.Argument(help="SMILES or InChI.")],
    threshold: Annotated[float | None, typer.Option(min=0.01, max=1.0, help="Least Tanimoto similarity.")] = None,
    library: LibraryName = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of hits.")] = 10,
    filter: Annotated[str, typer.Option(help="Conditions, as of search.")] = "",
    ids_only: Annotated[bool, typer.Option("--ids-only", help="Only the hits' resource names.")] = False,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """The compounds most similar to a structure by their fingerprints, exactly; all libraries unless one is named."""
    conditions = [f"({filter})"] if filter else []
    if threshold is not None:
        conditions.append(f"similar({json.dumps(structure)}, {threshold})")
    options = SearchOptions(structure=structure, target=Target.FINGERPRINTS, library=library, ids_only=ids_only)
    options["filter"] = " AND ".join(conditions)
    with service(context, address) as client:
        found = client.search(limit=limit, **options)
    if as_document:
        display.print_json(_answer(found, ids_only))
        return
    _print_answer(found, ids_only)
    if not found:
        display.complain("no hits.")


@libraries_app.callback()
def list_libraries(context: typer.Context, address: Address = None, as_document: Json = False) -> None:
    """List the libraries."""
    if address is not None:
        context.find_root().obj = address
    if context.invoked_subcommand is not None:
        return
    with service(context, address) as client:
        found = list(client.libraries())
    if as_document:
        display.print_json({"libraries": [named(library, library.id) for library in found]})
    else:
        display.print_libraries(found)


@libraries_app.command("create")
def create_library(
    context: typer.Context,
    library: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    name: Annotated[str, typer.Option(help="Name for people.")] = "",
    description: Annotated[str, typer.Option(help="What it holds, where it comes from, under which licence.")] = "",
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Make an empty library."""
    with service(context, address) as client:
        made = client.create_library(library, name=name, description=description)
    display.print_json(named(made, made.id)) if as_document else display.print_lines([f"Made {made.resource_name}."])


@libraries_app.command("delete")
def delete_library(
    context: typer.Context,
    library: Annotated[str, typer.Argument(help="Id of the library.")],
    force: Annotated[bool, typer.Option("--force", help="Delete it even though it holds compounds.")] = False,
    address: Address = None,
) -> None:
    """Delete a library and every compound in it."""
    with service(context, address) as client:
        client.delete_library(library, force=force)
    display.print_lines([f"Deleted {library}."])


@app.command()
def get(
    context: typer.Context,
    compound: Annotated[str, typer.Argument(help="LIBRARY/INCHIKEY, or an InChIKey to be found in any library.")],
    library: LibraryName = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Show one compound."""
    with service(context, address) as client:
        found = client.get_compound(compound, library) if library or "/" in compound else _find(client, compound)
    display.print_json(found) if as_document else display.print_compound(found)


@app.command()
def operations(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One operation; all of them when left out.")] = None,
    rejects: Annotated[bool, typer.Option("--rejects", help="List the rows that the import rejected.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask it to stop; what it has done stays.")] = False,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Show imports, their progress and their rejected rows."""
    if name is None and (rejects or cancel):
        raise typer.BadParameter("--rejects and --cancel need the NAME of an operation.")
    if rejects and cancel:
        raise typer.BadParameter("use either --rejects or --cancel.")
    with service(context, address) as client:
        if name is None:
            found = list(client.operations())
            display.print_json({"operations": found}) if as_document else display.print_operations(found)
            return
        if cancel:
            client.cancel(name)
        if rejects:
            rejected = list(client.rejections(name))
            display.print_json({"rejections": rejected}) if as_document else display.print_rejections(rejected)
            return
        operation = client.operation(name)
    display.print_json(operation) if as_document else display.print_operations([operation])
    if operation.message and not as_document:
        display.print_lines([operation.message])


class Kind(StrEnum):
    """What `embed` is given."""

    TEXT = "text"
    STRUCTURE = "structure"


@app.command()
def embed(
    context: typer.Context,
    items: Annotated[list[str], typer.Argument(help="Texts, or structures with --kind structure.")],
    kind: Annotated[Kind, typer.Option(help="What the items are.")] = Kind.TEXT,
    address: Address = None,
) -> None:
    """Print the vectors of texts or structures, as one JSON document."""
    with service(context, address) as client:
        found = client.embed_structures(items) if kind is Kind.STRUCTURE else client.embed_texts(items)
    embeddings = [{"input": item, **document(embedding)} for item, embedding in zip(items, found, strict=True)]
    display.print_json({"model": found.model, "embeddings": embeddings})
    if any(embedding.vector is None for embedding in found):
        display.complain("some items have no vector; their messages say why.")
        raise typer.Exit(1)


def _search_lines(client: Client, path: Path, limit: int, options: SearchOptions, as_document: bool) -> None:
    """A search for every line of a file that is not blank."""
    queries = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    ids_only = options.get("ids_only", False)
    answers = client.search_many(queries, limit=limit, **options)
    if as_document:
        searches = [
            {
                "query": query,
                **(_answer(answer.result, ids_only) if answer.result else {"reason": answer.reason, "message": answer.message}),
            }
            for query, answer in zip(queries, answers, strict=True)
        ]
        display.print_json({"searches": searches})
    else:
        for query, answer in zip(queries, answers, strict=True):
            display.print_lines([f"# {query}"])
            if answer.result is None:
                display.complain(f"{query[:60]!r}: {answer.message}")
            else:
                _print_answer(answer.result, ids_only)
    if any(answer.result is None for answer in answers):
        raise typer.Exit(1)


def _answer(found: SearchResult, ids_only: bool) -> dict[str, Any]:
    return {
        "hits": [_bare(hit) for hit in found] if ids_only else found.hits,
        "model": found.model,
        "interpretation": found.interpretation,
        "no_good_match": found.no_good_match,
    }


def _print_answer(found: SearchResult, ids_only: bool) -> None:
    if ids_only:
        display.print_lines(hit.compound.resource_name for hit in found)
        return
    if said := display.understood(found.interpretation):
        display.print_lines([said])
    if found:
        display.print_hits(found)


def _weights(given: list[str]) -> dict[str, float]:
    weights = {}
    for each in given:
        leg, _, number = each.partition("=")
        try:
            weights[leg.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(f"{each!r} is no weight; write LEG=NUMBER, such as lexical=0.5.") from None
    return weights


def _write_hits(client: Client, query: str | None, limit: int, options: SearchOptions, path: Path) -> None:
    """The hits as a file of compounds, each with its rank and score."""
    with CompoundFile(path, extra_fields=("rank", "score")) as written:
        if written.format is Format.SDF:
            options["fields"] = tuple(Compound.__dataclass_fields__)
        for hit in client.search(query, limit=limit, **options):
            written.write(hit.compound, {"rank": hit.rank, "score": hit.score})
    display.print_lines([f"{written.written:,} hits in {path}."])


def _find(client: Client, inchikey: str) -> Compound:
    """The compound in the first library that has it."""
    for library in client.libraries():
        try:
            return client.get_compound(inchikey, library)
        except NotFoundError:
            continue
    raise NotFoundError(f"No library holds {inchikey!r}; compounds are named by InChIKey.", reason="COMPOUND_NOT_FOUND")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_INPUT_BYTES).decode()
    except OSError as error:
        display.complain(f"{path} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        display.complain(f"{path} is not text.")
    raise typer.Exit(1)


def _write_rejections(client: Client, operation: str, path: Path) -> None:
    """Rejected rows as JSON Lines that can be mended and imported again."""
    try:
        with path.open("w", encoding="utf-8") as file:
            for rejection in client.rejections(operation):
                row = {name: value for name, value in document(rejection.row).items() if value and name != "position"}
                said = {"position": rejection.position, "reason": rejection.reason, "message": rejection.message}
                file.write(json.dumps({**row, "rejection": said}, ensure_ascii=False) + "\n")
    except OSError as error:
        display.complain(
            f"the import is done, but {path} cannot be written: {error.strerror}; see `atomas operations {operation} --rejects`."
        )
        raise typer.Exit(1) from None


def _bare(hit: Hit) -> dict[str, Any]:
    """A hit whose compound has nothing but its name: fields that were not fetched would look empty."""
    return {"rank": hit.rank, "score": hit.score, "compound": {"resource_name": hit.compound.resource_name}}
