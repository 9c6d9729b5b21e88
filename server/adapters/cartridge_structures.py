"""The structure index in PostgreSQL, searched by the RDKit cartridge; what its RDKit reads otherwise than ours is matched here."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from rdkit import Chem
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from encoder.molecules import MoleculeError, Structure
from encoder.patterns import misleads_screening
from encoder.readings import Reading, reading
from server.adapters import cartridge_patterns as patterns
from server.adapters.cartridge_patterns import ReadPattern
from server.adapters.cartridge_schema import new_generation, prepare, session
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.sql.engines import open_engines, parse_url
from server.adapters.sql.failures import translated
from server.domain.errors import AtomasError, Reason
from server.ports import ScoredPoint, StructureEntry

T = TypeVar("T")

CONNECTIONS, WAIT_SECONDS = 8, 10.0
# PostgreSQL looks at the clock between two molecules; whoever is later than this sits in one that will not end.
_GRACE_SECONDS = 0.5
# So many patterns at once. One that never ends keeps its place, and a core of the database, until PostgreSQL is restarted.
_PATTERNS_AT_ONCE = 4
_ENTRIES_PER_STATEMENT = 1_000
# Bounds what one task of a chemistry process is sent.
_MOLECULES_PER_TASK = 2_000
_CANCELLED = "57014"
# Tanimoto similarities are fractions: 3/5 reaches a threshold of 0.6.
_SLACK = 1e-7
_MOL = "%(text)s::mol"
# `*` in a pattern is any atom; nothing else of the molecule is changed.
_ANY_ATOMS = """mol_adjust_query_properties(%(text)s::mol, '{"makeDummiesQueries": true, "adjustDegree": false, "adjustRingCount": false,
    "aromatizeIfPossible": false}')"""
_WITHIN = "(%(libraries)s::text[] IS NULL OR library = ANY(%(libraries)s))"
_INSERT = """
INSERT INTO atomas_structures.molecules AS old (id, library, skeleton, smiles, elements, fingerprint, mol)
SELECT id, library, skeleton, smiles, elements::smallint[], bfp_from_binary_text(fingerprint), mol_from_smiles(smiles::cstring)
FROM unnest(%(ids)s::uuid[], %(libraries)s::text[], %(skeletons)s::text[], %(smiles)s::text[], %(elements)s::text[], %(fingerprints)s::bytea[])
    AS new (id, library, skeleton, smiles, elements, fingerprint)
ON CONFLICT (id) DO UPDATE SET library = excluded.library, skeleton = excluded.skeleton, smiles = excluded.smiles,
    elements = excluded.elements, fingerprint = excluded.fingerprint, mol = excluded.mol
WHERE (old.library, old.skeleton, old.smiles) IS DISTINCT FROM (excluded.library, excluded.skeleton, excluded.smiles)
RETURNING id, mol_to_pkl(mol)
"""


def open_cartridge(url: str, pattern_seconds: float, chemistry: ChemistryPool) -> "CartridgeStructures | None":
    """The structure index in this database; None where it is not PostgreSQL or its cartridge cannot be used. Raises DATABASE_UNAVAILABLE."""
    if parse_url(url).get_backend_name() != "postgresql":
        return None
    engine = open_engines(url, CONNECTIONS, WAIT_SECONDS).writing
    name = parse_url(url).render_as_string(hide_password=True)
    with translated(name):
        schema = prepare(engine)
    if schema is None:
        engine.dispose()
        return None
    return CartridgeStructures(engine, name, schema, pattern_seconds, chemistry)


class CartridgeStructures:
    """StructureIndex over the cartridge; every process of a fleet opens the same one."""

    def __init__(self, engine: Engine, name: str, schema: str, pattern_seconds: float, chemistry: ChemistryPool) -> None:
        """`pattern_seconds` is what one pattern may take over all the libraries it is looked for in."""
        self._engine = engine
        self._name = name
        self._schema = schema
        self._pattern_seconds = pattern_seconds
        self._chemistry = chemistry
        self._slots = threading.BoundedSemaphore(_PATTERNS_AT_ONCE)

    @property
    def generation(self) -> str:
        with self._session() as connection:
            return str(connection.exec_driver_sql("SELECT generation FROM atomas_structures.state").scalar_one())

    @property
    def complete(self) -> bool:
        with self._session() as connection:
            return bool(connection.exec_driver_sql("SELECT complete FROM atomas_structures.state").scalar_one())

    def declare_complete(self) -> None:
        """Questions are answered from now on."""
        with self._session() as connection:
            connection.exec_driver_sql("UPDATE atomas_structures.state SET complete = true")

    def upsert(self, entries: Sequence[StructureEntry]) -> str:
        """Inserts or replaces; of entries with one id the last stays."""
        # In one order, so that two who write the same structures do not wait for each other.
        latest = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: entry.id.int)
        with self._session() as connection:
            # Shared by all who write; `renew` waits for them.
            generation = connection.exec_driver_sql("SELECT generation FROM atomas_structures.state FOR SHARE").scalar_one()
            for start in range(0, len(latest), _ENTRIES_PER_STATEMENT):
                _insert(latest[start : start + _ENTRIES_PER_STATEMENT], connection)
        return str(generation)

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes those that exist."""
        with self._session() as connection:
            connection.exec_driver_sql("DELETE FROM atomas_structures.molecules WHERE id = ANY(%s)", (sorted(ids),))

    def delete_library(self, library: str) -> None:
        """Removes every structure of the library."""
        with self._session() as connection:
            connection.exec_driver_sql("DELETE FROM atomas_structures.molecules WHERE library = %s", (library,))

    def renew(self) -> None:
        """Forgets everything, under a new generation."""
        with self._session() as connection:
            connection.exec_driver_sql("UPDATE atomas_structures.state SET generation = %s, complete = false", (new_generation(),))
            connection.exec_driver_sql("TRUNCATE atomas_structures.molecules")

    def check_pattern(self, pattern: str) -> None:
        """Raises as the searches do."""
        self._read(pattern)

    def containing(self, pattern: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures that hold the pattern."""
        deadline = time.monotonic() + self._pattern_seconds
        read = self._read(pattern)
        asked = {"text": read.text, "libraries": _listed(libraries), "elements": read.elements}

        def ask() -> tuple[list[uuid.UUID], list[tuple[uuid.UUID, str]]]:
            with self._questions(self._pattern_seconds) as connection:
                theirs = _reads_alike(read, connection)
                found: list[uuid.UUID] = []
                if theirs:
                    query = f"SELECT id FROM atomas_structures.molecules WHERE mol @> {theirs} AND {_WITHIN}"
                    found = list(connection.exec_driver_sql(query, asked).scalars())
                # Nothing is left out by their elements that the pattern could match.
                others = f"elements @> %(elements)s::smallint[] AND {_WITHIN}" + (" AND mol IS NULL" if theirs else "")
                return found, _molecules(others, asked, connection)

        found, others = self._in_time(ask)
        return found + self._matched(others, pattern, patterns.holders, deadline)

    def contained_in(self, smiles: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures that are substructures of the molecule."""
        deadline = time.monotonic() + self._pattern_seconds
        whole = Chem.MolFromSmiles(smiles)
        asked = {"text": smiles, "libraries": _listed(libraries), "elements": _elements(whole)}

        def ask() -> tuple[list[uuid.UUID], list[tuple[uuid.UUID, str]]]:
            with self._questions(self._pattern_seconds) as connection:
                alike = not misleads_screening(whole) and _same_molecule(smiles, reading(whole), connection)
                found: list[uuid.UUID] = []
                if alike:
                    query = f"SELECT id FROM atomas_structures.molecules WHERE mol <@ {_MOL} AND {_WITHIN}"
                    found = list(connection.exec_driver_sql(query, asked).scalars())
                others = f"elements <@ %(elements)s::smallint[] AND {_WITHIN}" + (" AND mol IS NULL" if alike else "")
                return found, _molecules(others, asked, connection)

        found, others = self._in_time(ask)
        return found + self._matched(others, smiles, patterns.parts, deadline)

    def with_skeleton(self, skeleton: str, libraries: Sequence[str] | None = None) -> list[uuid.UUID]:
        """Structures whose parent has this first InChIKey block."""
        query = f"SELECT id FROM atomas_structures.molecules WHERE skeleton = %(skeleton)s AND {_WITHIN}"
        with self._questions() as connection:
            return list(connection.exec_driver_sql(query, {"skeleton": skeleton, "libraries": _listed(libraries)}).scalars())

    def similar(self, fingerprint: bytes, threshold: float, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        """Everything at least so similar, most similar first, ties by id."""
        with self._questions(threshold=max(threshold - _SLACK, 0.0)) as connection:
            return _similar(fingerprint, threshold, libraries, connection)

    def nearest(self, fingerprint: bytes, count: int, libraries: Sequence[str] | None = None) -> list[ScoredPoint]:
        """The most similar, in the order of `similar`."""
        # The index can also order by `<%>`, and leaves nearer neighbours out when it does: so every fingerprint is compared.
        with self._questions() as connection:
            return _similar(fingerprint, 0.0, libraries, connection, count) if count > 0 else []

    def tanimoto(self, fingerprint: bytes, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, float]:
        """Similarities of those that exist."""
        query = """SELECT id, tanimoto_sml(fingerprint, bfp_from_binary_text(%(fingerprint)s)) FROM atomas_structures.molecules
            WHERE id = ANY(%(ids)s)"""
        with self._session() as connection:
            rows = connection.exec_driver_sql(query, {"fingerprint": fingerprint, "ids": list(ids)})
            return {row[0]: row[1] for row in rows}

    def matched_atoms(self, pattern: str, smiles: Sequence[str]) -> list[tuple[int, ...]]:
        """For each molecule the atoms that any match covers, in ascending order."""
        work = partial(patterns.atoms_in, list(smiles))
        return [tuple(atoms) for atoms in self._worked(work, pattern, self._pattern_seconds)]

    def count(self, library: str | None = None) -> int:
        """Structures of one library or of all."""
        query = f"SELECT count(*) FROM atomas_structures.molecules WHERE {_WITHIN}"
        with self._session() as connection:
            return int(connection.exec_driver_sql(query, {"libraries": None if library is None else [library]}).scalar_one())

    def ids(self, library: str | None = None) -> list[uuid.UUID]:
        """Every structure's id, in order."""
        query = f"SELECT id FROM atomas_structures.molecules WHERE {_WITHIN} ORDER BY id"
        with self._session() as connection:
            return list(connection.exec_driver_sql(query, {"libraries": None if library is None else [library]}).scalars())

    def close(self) -> None:
        """Lets the connections go."""
        self._engine.dispose()

    @contextmanager
    def _session(self, seconds: float | None = None, threshold: float | None = None) -> Iterator[Connection]:
        with translated(self._name), session(self._engine, self._schema, seconds, threshold) as connection:
            yield connection

    @contextmanager
    def _questions(self, seconds: float | None = None, threshold: float | None = None) -> Iterator[Connection]:
        """A session for questions whose answer would look whole while something is missing. Raises INDEX_UNAVAILABLE, TIMEOUT."""
        with self._session(seconds, threshold) as connection:
            if not connection.exec_driver_sql("SELECT complete FROM atomas_structures.state").scalar_one():
                filling = "The structure index is being filled from the database. Try again in a minute."
                raise AtomasError(Reason.INDEX_UNAVAILABLE, filling)
            try:
                yield connection
            except OperationalError as error:
                if seconds is None or getattr(error.orig, "sqlstate", None) != _CANCELLED:
                    raise
                raise self._too_slow() from None

    def _in_time(self, ask: Callable[[], T]) -> T:
        """What is asked, on a thread that is left behind when the database does not come back from one molecule."""
        if not self._slots.acquire(timeout=self._pattern_seconds):
            raise AtomasError(Reason.OVERLOADED, "Other structure searches take all the time there is. Try again in a moment.")
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(ask())
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._slots.release()

        threading.Thread(target=run, name="cartridge", daemon=True).start()
        try:
            return future.result(self._pattern_seconds + _GRACE_SECONDS)
        except FutureTimeout:
            raise self._too_slow() from None

    def _matched(
        self, molecules: Sequence[tuple[uuid.UUID, str]], asked: str, work: Callable[..., list[bool]], deadline: float
    ) -> list[uuid.UUID]:
        """Those of the molecules of which the work says so, done here."""
        found: list[uuid.UUID] = []
        for start in range(0, len(molecules), _MOLECULES_PER_TASK):
            batch = molecules[start : start + _MOLECULES_PER_TASK]
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._too_slow()
            said = self._worked(partial(work, [smiles for _, smiles in batch]), asked, left)
            found += [id for (id, _), holds in zip(batch, said, strict=True) if holds]
        return found

    def _read(self, pattern: str) -> ReadPattern:
        return self._worked(patterns.read, pattern, self._pattern_seconds)

    def _worked(self, work: Callable[..., T], text: str, seconds: float) -> T:
        """Done in a chemistry process. Raises its refusals, TIMEOUT."""
        result = self._chemistry.work_on_one(work, Structure("auto", text), seconds)
        if not isinstance(result, MoleculeError):
            return result
        if result.reason.value == Reason.TIMEOUT:
            raise self._too_slow()
        raise AtomasError(Reason(result.reason.value), result.message)

    def _too_slow(self) -> AtomasError:
        return AtomasError(
            Reason.TIMEOUT,
            f"The pattern took longer than {self._pattern_seconds:g} seconds over these libraries. Make it more specific, or search fewer libraries.",
        )


def _insert(entries: Sequence[StructureEntry], connection: Connection) -> None:
    molecules = {entry.id: Chem.MolFromSmiles(entry.smiles) for entry in entries}
    rows: dict[str, list[Any]] = {
        "ids": [entry.id for entry in entries],
        "libraries": [entry.library for entry in entries],
        "skeletons": [entry.skeleton for entry in entries],
        "smiles": [entry.smiles for entry in entries],
        # Arrays of arrays must be of one length; each travels as PostgreSQL writes it.
        "elements": [f"{{{','.join(map(str, _elements(molecules[entry.id])))}}}" for entry in entries],
        "fingerprints": [entry.fingerprint for entry in entries],
    }
    changed = connection.exec_driver_sql(_INSERT, rows).all()
    otherwise = [id for id, theirs in changed if not _alike(molecules[id], theirs)]
    if otherwise:
        connection.exec_driver_sql("UPDATE atomas_structures.molecules SET mol = NULL WHERE id = ANY(%s)", (otherwise,))


def _reads_alike(read: ReadPattern, connection: Connection) -> str:
    """The pattern as an expression of the cartridge; empty when its RDKit reads it otherwise than ours, or not at all."""
    if read.notation == "smarts":
        query = "SELECT CASE WHEN is_valid_smarts(%(text)s::text::cstring) THEN mol_to_smarts(%(text)s::text::qmol) END"
        theirs = connection.exec_driver_sql(query, {"text": read.text}).scalar_one()
        return "%(text)s::qmol" if theirs is not None and theirs == read.smarts else ""
    if read.molecule is None or not _same_molecule(read.text, read.molecule, connection):
        return ""
    return _ANY_ATOMS if read.has_any_atoms else _MOL


def _alike(ours: Chem.Mol, theirs: bytes | None) -> bool:
    """Whether the cartridge finds the molecule by whatever it matches: it reads it as we do, and its fingerprint tells the truth."""
    return theirs is not None and not misleads_screening(ours) and reading(Chem.Mol(bytes(theirs))) == reading(ours)


def _same_molecule(smiles: str, ours: Reading, connection: Connection) -> bool:
    theirs = connection.exec_driver_sql("SELECT mol_to_pkl(mol_from_smiles(%s::cstring))", (smiles,)).scalar_one()
    return theirs is not None and reading(Chem.Mol(bytes(theirs))) == ours


def _molecules(condition: str, asked: Mapping[str, object], connection: Connection) -> list[tuple[uuid.UUID, str]]:
    rows = connection.exec_driver_sql(f"SELECT id, smiles FROM atomas_structures.molecules WHERE {condition}", asked)
    return [(row[0], row[1]) for row in rows]


def _similar(
    fingerprint: bytes, threshold: float, libraries: Sequence[str] | None, connection: Connection, limit: int | None = None
) -> list[ScoredPoint]:
    # The operator uses the index, and knows no threshold of 0.
    near = "fingerprint %% bfp_from_binary_text(%(fingerprint)s)" if threshold > _SLACK else "true"
    query = f"""
        SELECT id, tanimoto_sml(fingerprint, bfp_from_binary_text(%(fingerprint)s)) AS score FROM atomas_structures.molecules
        WHERE {near} AND {_WITHIN} ORDER BY score DESC, id LIMIT %(limit)s"""
    asked = {"fingerprint": fingerprint, "libraries": _listed(libraries), "limit": limit}
    return [ScoredPoint(*row) for row in connection.exec_driver_sql(query, asked)]


def _elements(molecule: Chem.Mol) -> list[int]:
    return sorted({atom.GetAtomicNum() for atom in molecule.GetAtoms()})


def _listed(libraries: Sequence[str] | None) -> list[str] | None:
    return None if libraries is None else list(libraries)
