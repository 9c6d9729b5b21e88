"""Names of compounds, looked up in every database alike."""

from collections.abc import Sequence

import pytest

from server.adapters.sql.migrate import downgrade, migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.compounds import SourceRecord
from server.domain.libraries import Library
from server.domain.search import NamedCompound
from server.ports import Database
from tests.contract.values import compound, inchikey


def add(database: Database, library: str, *names_of_each: Sequence[str], first: int = 0) -> None:
    """A library whose compounds have these ids (first) and names."""
    with database.transaction() as transaction:
        transaction.libraries.add(Library(library))
        transaction.compounds.save(
            [
                compound(first + i, SourceRecord(source_id, names[0], tuple(names[1:])), library=library)
                for i, (source_id, *names) in enumerate(names_of_each)
            ]
        )


def spelled(database: Database, text: str, libraries: Sequence[str] | None = None, limit: int = 10) -> list[NamedCompound]:
    with database.reading() as transaction:
        return transaction.names.spelled(text, libraries, limit)


def misspelled(database: Database, text: str, libraries: Sequence[str] | None = None, limit: int = 10) -> list[NamedCompound]:
    with database.reading() as transaction:
        return transaction.names.misspelled(text, libraries, limit)


def keys(database: Database, beginning: str, libraries: Sequence[str] | None = None, limit: int = 10) -> list[tuple[str, str]]:
    with database.reading() as transaction:
        return [(found.library, found.inchikey) for found in transaction.names.with_inchikey(beginning, libraries, limit)]


def test_names_and_ids_are_found_in_any_spelling(database: Database) -> None:
    add(database, "lib", ["CHEBI:17579", "beta-carotene", "β-Carotene", "Provitamin A"], ["CHEBI:27732", "caffeine"])
    assert spelled(database, "provitamin-a") == [NamedCompound("lib", inchikey(0), "Provitamin A")]
    found = {found.name: found.is_title for found in spelled(database, "Beta Carotene")}
    assert found == {"beta-carotene": True, "β-Carotene": False}
    assert spelled(database, "chebi 27732") == [NamedCompound("lib", inchikey(1), "CHEBI:27732", is_id=True)]
    assert spelled(database, "nothing of the kind") == []
    assert spelled(database, "") == spelled(database, "(+)-") == []


def test_one_typo_is_forgiven_and_two_are_not(database: Database) -> None:
    add(database, "lib", ["A:1", "caffeine"], ["A:2", "theobromine"], ["A:3", "urea"])
    for typo in ("cafeine", "cafffeine", "caffeinr", "acffeine", "caffiene", "affeine", "caffein", "Caf-fein"):
        assert misspelled(database, typo) == [NamedCompound("lib", inchikey(0), "caffeine", is_title=True)], typo
    for other in ("caffeine", "cafein", "ccaffeinee", "ure", "", "A:4"):
        assert misspelled(database, other) == [], other


def test_names_are_looked_up_in_the_libraries_asked_for(database: Database) -> None:
    add(database, "one", ["A:1", "aspirin"])
    add(database, "two", ["B:1", "Aspirin"])
    assert {found.library for found in spelled(database, "aspirin")} == {"one", "two"}
    assert [found.name for found in spelled(database, "aspirin", ["two", "unknown"])] == ["Aspirin"]
    assert {found.library for found in misspelled(database, "aspirn", ["one"])} == {"one"}
    assert spelled(database, "aspirin", []) == []
    assert len(spelled(database, "aspirin", limit=1)) == 1


def test_inchikeys_are_found_whole_and_by_their_beginning(database: Database) -> None:
    add(database, "one", ["A:1", "x"], ["A:2", "y"])
    add(database, "two", ["B:1", "x"])
    assert keys(database, inchikey(0)) == [("one", inchikey(0)), ("two", inchikey(0))]
    assert keys(database, inchikey(1)[:14] + "-", ["one"]) == [("one", inchikey(1))]
    assert len(keys(database, "A", limit=2)) == 2
    assert keys(database, "ZZZZZZZZZZZZZZ-") == []


def test_names_follow_what_is_saved_and_deleted(database: Database) -> None:
    add(database, "lib", ["A:1", "old name"], ["A:2", "other"])
    with database.transaction() as transaction:
        [stored] = transaction.compounds.get_many("lib", [inchikey(0)], for_update=True).values()
        transaction.compounds.save([stored.merged_with(SourceRecord("A:1", "new name"))])
    assert spelled(database, "old name") == []
    assert [found.name for found in spelled(database, "new name")] == ["new name"]
    with database.transaction() as transaction:
        transaction.compounds.mark_deleted("lib", inchikey(0))
    assert spelled(database, "new name") == []
    assert keys(database, inchikey(0)) == []
    with database.transaction() as transaction:
        transaction.compounds.save([compound(0, SourceRecord("A:1", "again"))])
    assert spelled(database, "new name") == []
    assert len(spelled(database, "again")) == 1
    with database.transaction() as transaction:
        transaction.libraries.mark_deleted("lib")
    assert spelled(database, "again") == spelled(database, "other") == []
    with database.transaction() as transaction:
        assert transaction.libraries.purge("lib", 1_000)
    add(database, "lib", ["A:9", "someone else"])
    assert spelled(database, "other") == []
    assert len(spelled(database, "someone else")) == 1


@pytest.mark.parametrize("name", ["\0", "half \ud83d of a pair", "x" * 5_000, "💊", "Ω" * 300])
def test_odd_names_are_stored_and_do_not_hinder_others(database: Database, name: str) -> None:
    add(database, "lib", ["A:1", name, "good name"])
    assert [found.name for found in spelled(database, "Good-Name")] == ["good name"]
    misspelled(database, name)


def test_a_name_in_many_compounds_costs_no_more_than_the_limit(database: Database) -> None:
    add(database, "lib", *(["", "the same"] for _ in range(60)))
    assert len(spelled(database, "the same", limit=7)) == 7
    assert len({found.inchikey for found in spelled(database, "the same", limit=100)}) == 60


def test_a_database_of_before_is_given_its_names_and_its_index_is_filled_anew(sql_url: str) -> None:
    database = SqlDatabase(sql_url)
    add(database, "lib", ["A:1", "old stock", "x"], ["A:2", "β-thing"])
    with database.transaction() as transaction:
        transaction.compounds.mark_indexed("lib", {inchikey(0): 1, inchikey(1): 1}, "model")
        assert transaction.compounds.unindexed("model", 10) == []
    downgrade(sql_url, "0002")
    migrate(sql_url)
    assert [found.name for found in spelled(database, "Old-Stock")] == ["old stock"]
    assert [found.name for found in misspelled(database, "beta thng")] == ["β-thing"]
    assert [found.is_id for found in spelled(database, "A:2")] == [True]
    with database.reading() as transaction:
        assert len(transaction.compounds.unindexed("model", 10)) == 2
    database.close()
