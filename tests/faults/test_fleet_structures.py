"""The structure keeper of a fleet: what was imported is found, while it is away everything else works, what it lost it is given again."""

from collections.abc import Iterator

import pytest

from atomas import AtomasError, Client
from deploy.fleet import Fleet
from tests.faults.fleets import real_compounds, running_fleet, wait_for, wait_until_done

PATTERN = 'substructure("C(=O)O")'


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running_fleet("redis") as running:
        yield running


def found(client: Client) -> set[str]:
    return {hit.compound.inchikey for hit in client.search(library="chebi", filter=PATTERN, limit=500)}


def found_again(client: Client, right: set[str]) -> bool:
    try:
        return found(client) == right
    except AtomasError:
        return False


def test_structures_are_found_away_missed_and_filled_again(fleet: Fleet) -> None:
    with Client(fleet.address) as client:
        client.import_compounds(real_compounds(120), library="chebi")
        wait_until_done(client)
        right = found(client)
        assert right
        fleet.structures.kill()
        with pytest.raises(AtomasError) as caught:
            found(client)
        assert caught.value.reason == "INDEX_UNAVAILABLE"
        assert client.search("an acid", library="chebi", limit=3)
        assert client.search(structure="CC(=O)O", library="chebi", limit=3)
        fleet.structures.start()
        fleet.structures.wait()
        wait_for(lambda: found_again(client, right), "the keeper came back with other answers")
        fleet.structures.kill()
        (fleet.folder / "structures" / "structures.log").unlink()
        fleet.structures.start()
        fleet.structures.wait()
        wait_for(lambda: found_again(client, right), "the keeper was not filled again")
