"""Clients that search and import at once meet nothing but answers, or refusals that say when to come back."""

from atomas import Client
from benchmarks.library import lines, queries
from benchmarks.load_traffic import SHARES, WRITTEN, Traffic
from tests.running import RunningServer

CLIENTS, SECONDS = 12, 3.0


async def test_a_mixture_of_searches_and_imports_fails_nowhere(server: RunningServer) -> None:
    traffic = Traffic.of(lines(100), queries(50))
    try:
        tally = await traffic.run(server.address, CLIENTS, SECONDS)
    finally:
        with Client(server.address) as client:
            client.delete_library(WRITTEN, force=True)
    assert not tally.failed, tally.failed
    assert {kind for kind, seconds in tally.seconds.items() if seconds} == set(SHARES)
