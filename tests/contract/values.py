"""Values to store in databases: whole, small, different from each other."""

from server.domain.compounds import Compound, SourceRecord, Structure
from server.domain.libraries import Library
from server.domain.operations import ImportRow, Operation, Rejection, State
from server.ports import Database


def inchikey(number: int) -> str:
    """InChIKeys in the order of their numbers."""
    letters = "".join(chr(ord("A") + number // 26**place % 26) for place in range(14))
    return f"{letters[::-1]}-UHFFFAOYSA-N"


def record(name: str, **metadata: str | float | bool) -> SourceRecord:
    return SourceRecord(source_id=f"ID:{name}", display_name=name, metadata=metadata)


def compound(number: int, *records: SourceRecord, library: str = "lib") -> Compound:
    """A new compound whose parent is another structure for odd numbers."""
    parent = number + 1 if number % 2 else number
    structure = Structure(
        smiles="C" * (number % 50 + 1),
        inchikey=inchikey(number),
        parent_smiles="C" * (parent % 50 + 1),
        parent_inchikey=inchikey(parent),
        descriptors={"molecular_weight": 16.043 + number, "hbd": number, "formula": "CH4", "fraction_csp3": 1.0},
        fingerprint=bytes([number % 256]) * 256,
    )
    return Compound(library, structure, records or (record(f"compound {number}"),))


def add_library(database: Database, library: str = "lib", compounds: int = 0) -> None:
    """A library with the compounds 0, 1, ..."""
    with database.transaction() as transaction:
        transaction.libraries.add(Library(library, display_name=library.title()))
        transaction.compounds.save([compound(number, library=library) for number in range(compounds)])


def open_import(database: Database, operation: str = "op", library: str = "lib", chunks: int = 0, rows: int = 2) -> Operation:
    """An operation that receives rows, with so many chunks accepted."""
    with database.transaction() as transaction:
        opened = transaction.operations.open(Operation(operation, library, f"request of {operation}", "file.smi", State.RECEIVING))
        for chunk in range(chunks):
            transaction.operations.accept(operation, import_rows(chunk * rows + 1, rows))
    return opened


def import_rows(first: int, count: int) -> list[ImportRow]:
    return [ImportRow(position, "smiles", "C" * position, record(f"row {position}")) for position in range(first, first + count)]


def rejection(position: int, reason: str = "INVALID_SMILES") -> Rejection:
    return Rejection(position, reason, f"Row {position} is no molecule.", ImportRow(position, "smiles", "C(", record(f"row {position}")))
