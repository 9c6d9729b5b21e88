"""Stage timings of a search, and metadata that a program sends along."""

import time

from atomas import AsyncClient, Client
from atomas.codec import decode_timings
from server.domain.libraries import Library
from server.usecases.manage_libraries import create_library
from tests.security.served import served
from tests.unit.conftest import World

STAGES = {"prepare", "structures", "encode", "search", "align", "fuse", "show"}


async def test_a_search_tells_how_long_each_stage_took(world: World) -> None:
    create_library(Library("lib"), world.ports)
    with served(world.ports, auth_required=False) as service:
        with Client(service.address) as client:
            started = time.perf_counter()
            found = client.search(text="water", library="lib")
            whole = time.perf_counter() - started
            [page] = client.search_pages(text="water", library="lib")
        async with AsyncClient(service.address) as waiting:
            later = await waiting.search(text="water", library="lib")
    for timings in (found.timings, page.timings, later.timings):
        assert set(timings) == STAGES
        assert all(seconds >= 0 for seconds in timings.values())
    assert sum(found.timings.values()) < whole


def test_a_service_that_says_nothing_of_its_time_is_no_fault() -> None:
    assert decode_timings(()) == {}
    assert decode_timings([("other", "x"), ("atomas-timings", "encode;0.25,search;1")]) == {"encode": 0.25, "search": 1.0}


async def test_metadata_goes_along_with_every_call_beside_the_key(world: World) -> None:
    asked: list[int] = []

    def metadata() -> dict[str, str]:
        asked.append(len(asked))
        return {"x-request-id": f"id-{len(asked)}"}

    with served(world.ports) as service:
        secret = service.key("-:admin")
        with Client(service.address, api_key=secret, metadata=metadata) as client:
            list(client.libraries())
            client.import_compounds(["CCO"], library="lib", wait=False)
        async with AsyncClient(service.address, api_key=secret, metadata=metadata) as waiting:
            assert [library.resource_name async for library in waiting.libraries()] == ["libraries/lib"]
    assert len(asked) >= 4
