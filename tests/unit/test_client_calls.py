"""Calls of both clients against a real gRPC server: values, paging, requests as they were sent."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

import atomas
from atomas import AsyncClient, Client
from atomas.calls import SearchOptions
from tests.unit.scripted_service import RefusedError, RunningService, ScriptedService, compound


class Awaited:
    """The asyncio client behind the blocking one's surface, so that one test speaks to both."""

    def __init__(self, address: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(address, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            made = method(*arguments, **options)
            if inspect.isawaitable(made):
                return self._loop.run_until_complete(made)
            return self._loop.run_until_complete(_collected(made))

        return call

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


async def _collected(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningService]:
    with RunningService() as started:
        yield started


@pytest.fixture
def service(running: RunningService) -> ScriptedService:
    """The running service as if it were new."""
    running.service.__init__()  # type: ignore[misc]  # a new server for each test would take much longer
    return running.service


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, running: RunningService) -> Iterator[Any]:
    kind = Client if request.param == "blocking" else Awaited
    made = kind(running.address, timeout_seconds=10)
    yield made
    made.close()


def test_a_library_lives_from_creation_to_deletion(client: Any, service: ScriptedService) -> None:
    made = client.create_library("lib", name="My library", description="CC BY 4.0")
    assert (made.id, made.resource_name, made.name) == ("lib", "libraries/lib", "My library")
    assert made.create_time == datetime.fromtimestamp(1_700_000_000, UTC)
    assert made.update_time is None
    assert client.get_library("libraries/lib") == client.get_library("lib") == client.get_library(made) == made
    changed = client.update_library("lib", description="CC0")
    assert (changed.name, changed.description) == ("My library", "CC0")
    client.delete_library("lib")
    with pytest.raises(atomas.NotFoundError):
        client.get_library("lib")


def test_libraries_are_listed_over_all_pages(client: Any, service: ScriptedService) -> None:
    for number in range(7):
        client.create_library(f"lib{number}")
    assert [library.id for library in client.libraries()] == [f"lib{number}" for number in range(7)]


def test_updating_nothing_is_refused_before_it_is_sent(client: Any, service: ScriptedService) -> None:
    with pytest.raises(atomas.InvalidArgumentError, match="Nothing to update"):
        client.update_library("lib")
    assert service.requests == []


def test_a_library_with_compounds_is_deleted_only_by_force(client: Any, service: ScriptedService) -> None:
    client.create_library("lib")
    service.libraries["libraries/lib"].compound_count = 3
    with pytest.raises(atomas.FailedPreconditionError) as caught:
        client.delete_library("lib")
    assert caught.value.reason == "LIBRARY_NOT_EMPTY"
    client.delete_library("lib", force=True)
    assert list(client.libraries()) == []


@pytest.mark.parametrize(
    "arguments", [("KEY", "lib"), ("KEY", "libraries/lib"), ("lib/KEY",), ("libraries/lib/compounds/KEY",), ("lib/compounds/KEY",)]
)
def test_a_compound_is_found_by_every_way_of_naming_it(client: Any, service: ScriptedService, arguments: tuple[str, ...]) -> None:
    service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "ethanol")
    found = client.get_compound(*arguments)
    assert (found.name, found.smiles, found.library, found.synonyms) == ("ethanol", "CCO", "lib", ("a", "b"))
    assert found.descriptors.molecular_weight == 46.07
    assert found.descriptors.formula == "C2H6O"


def test_an_inchikey_without_its_library_is_refused_with_what_to_do(client: Any, service: ScriptedService) -> None:
    with pytest.raises(atomas.InvalidArgumentError, match="Name the library"):
        client.get_compound("LFQSCWFLJHTTHZ-UHFFFAOYSA-N")


def test_metadata_comes_back_as_plain_values(client: Any, service: ScriptedService) -> None:
    service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "ethanol")
    metadata = client.get_compound("lib/KEY").metadata
    assert metadata == {"source": "ChEBI", "stars": 3, "tags": ["x", None], "nested": {"yes": True}}
    assert type(metadata["stars"]) is int


def test_compounds_are_listed_and_deleted(client: Any, service: ScriptedService) -> None:
    for number in range(5):
        service.compounds[f"libraries/lib/compounds/K{number}"] = compound(f"K{number}", str(number))
    assert [each.inchikey for each in client.compounds("lib")] == ["K0", "K1", "K2", "K3", "K4"]
    client.delete_compound("K2", "lib")
    assert [each.inchikey for each in client.compounds("lib")] == ["K0", "K1", "K3", "K4"]


def test_search_follows_pages_up_to_the_limit(client: Any, service: ScriptedService) -> None:
    result = client.search("a carboxylic acid", library="lib", limit=5)
    assert [hit.rank for hit in result] == [1, 2, 3, 4, 5]
    assert len(result) == 5
    assert result[0].compound.name == "compound 1"
    assert [hit.rank for hit in result[1:3]] == [2, 3]
    assert result.model == "models/m1"
    assert result[0].legs == (atomas.LegScore(leg="molecules", score=0.5, rank=1, weight=2.0),)
    assert result[0].matched_words == ("acid",)
    assert {request.page_size for request in service.seen("SearchCompounds")} == {5}


def test_search_ends_with_the_last_page_when_there_are_fewer_hits_than_asked(client: Any, service: ScriptedService) -> None:
    assert [hit.rank for hit in client.search("acid", limit=100)] == [1, 2, 3, 4, 5, 6, 7]


def test_search_without_hits_is_empty(client: Any, service: ScriptedService) -> None:
    service.hit_count = 0
    assert list(client.search("acid")) == []


def test_search_for_no_hits_asks_nothing(client: Any, service: ScriptedService) -> None:
    assert len(client.search("acid", limit=0)) == 0
    assert service.requests == []


def test_search_pages_can_be_taken_up_again_by_token(client: Any, service: ScriptedService) -> None:
    pages = list(client.search_pages(smiles="CCO", page_size=2))
    assert [[hit.rank for hit in page.hits] for page in pages] == [[1, 2], [3, 4], [5, 6], [7]]
    again = list(client.search_pages(smiles="CCO", page_size=2, page_token=pages[1].next_page_token))
    assert again == pages[2:]


def test_search_sends_every_option(client: Any, service: ScriptedService) -> None:
    client.search(
        compound="lib/KEY", library="lib", limit=3, target="texts", filter="clogp < 2", fields=["name", "smiles", "descriptors.clogp"]
    )
    client.search(smiles="CCO", target=atomas.Target.MOLECULES, ids_only=True, limit=1)
    client.search(text="words", limit=1)
    client.search("anything", limit=1, libraries=["one", "libraries/two"], weights={"lexical": 0.5})
    by_compound, by_smiles, by_text, by_query = service.seen("SearchCompounds")
    assert by_compound.parent == "libraries/lib"
    assert by_compound.compound == "libraries/lib/compounds/KEY"
    assert by_compound.filter == "clogp < 2"
    assert by_compound.target == by_compound.TEXTS
    assert list(by_compound.read_mask.paths) == ["name", "display_name", "smiles", "descriptors.clogp"]
    assert (by_smiles.parent, by_smiles.structure, by_smiles.target) == ("libraries/-", "CCO", by_smiles.MOLECULES)
    assert list(by_smiles.read_mask.paths) == ["name"]
    assert (by_text.text, by_text.target) == ("words", by_text.TARGET_UNSPECIFIED)
    assert not by_text.HasField("read_mask")
    assert (by_query.query, by_query.parent, list(by_query.libraries)) == ("anything", "libraries/-", ["libraries/one", "libraries/two"])
    assert dict(by_query.leg_weights) == {"lexical": 0.5}


def test_search_says_how_it_was_understood(client: Any, service: ScriptedService) -> None:
    found = client.search("acd", limit=1)
    assert found.interpretation == atomas.Interpretation(atomas.QueryKind.NAME, corrected_name="acid")
    assert found.no_good_match
    assert not client.search("acid", limit=1).no_good_match
    assert found[0].legs[0].weight == 2.0


def test_many_searches_go_in_few_calls_and_fail_one_by_one(client: Any, service: ScriptedService) -> None:
    queries: list[Any] = [f"query {i}" for i in range(501)]
    queries[3] = ""
    queries[4] = SearchOptions(smiles="CCO", library="own")
    answers = client.search_many(queries, limit=2, library="lib", filter="charge = 0")
    assert [len(call.requests) for call in service.seen("BatchSearchCompounds")] == [500, 1]
    assert len(answers) == 501
    assert [hit.rank for hit in answers[0].result] == [1, 2]
    assert (answers[3].result, answers[3].reason, answers[3].message) == (None, "EMPTY_QUERY", "The text is empty.")
    sent = service.seen("BatchSearchCompounds")[0].requests
    assert (sent[0].query, sent[0].parent, sent[0].filter, sent[0].page_size) == ("query 0", "libraries/lib", "charge = 0", 2)
    assert (sent[4].structure, sent[4].parent, sent[4].filter) == ("CCO", "libraries/own", "charge = 0")


@pytest.mark.parametrize(("queries", "limit"), [("one string", 10), (["a"], 0), (["a"], 1_001), ([{"text": "a", "smiles": "C"}], 1)])
def test_many_searches_refuse_what_cannot_be_right(client: Any, service: ScriptedService, queries: Any, limit: int) -> None:
    with pytest.raises(atomas.InvalidArgumentError):
        client.search_many(queries, limit=limit)
    assert client.search_many([]) == []
    assert service.seen("BatchSearchCompounds") == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "exactly one"),
        ({"text": "a", "smiles": "CCO"}, "exactly one"),
        ({"structure": "CCO", "smiles": "CCO"}, "exactly one"),
        ({"text": "a", "limit": -1}, "limit"),
        ({"text": "a", "library": "one", "libraries": ["two"]}, "either one library or several"),
        ({"text": "a", "target": "everything"}, "both, molecules, texts"),
        ({"text": "a", "fields": ["colour"]}, "no field colour"),
        ({"text": "lone \ud800 surrogate"}, "Unicode"),
        ({"compound": "KEY"}, "Name the library"),
    ],
)
def test_search_refuses_what_cannot_be_right_before_sending_it(
    client: Any, service: ScriptedService, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(atomas.InvalidArgumentError, match=complaint):
        client.search(**options)
    assert service.requests == []


def test_embeddings_come_in_order_over_several_calls_and_bad_items_say_why(client: Any, service: ScriptedService) -> None:
    texts = ["a" * (1 + number % 9) for number in range(600)]
    texts[300] = ""
    embeddings = client.embed_texts(texts)
    assert len(embeddings) == 600
    assert len(service.seen("EmbedTexts")) == 3
    assert embeddings.model == "models/m1"
    assert embeddings[300].vector is None
    assert (embeddings[300].reason, embeddings[300].message) == ("EMPTY_QUERY", "The text is empty.")
    assert [e.vector[0] for e in embeddings if e.vector] == [len(text) for text in texts if text]
    assert client.embed_structures(["CCO"])[0].vector == (0.0, 3.0)


def test_embedding_nothing_calls_nothing_and_one_string_is_refused(client: Any, service: ScriptedService) -> None:
    assert len(client.embed_texts([])) == 0
    with pytest.raises(atomas.InvalidArgumentError, match="list"):
        client.embed_texts("one string")
    assert service.requests == []


def test_models_are_described(client: Any, service: ScriptedService) -> None:
    model = client.model()
    assert list(client.models()) == [model]
    assert (model.version, model.state, model.dimension, model.max_tokens) == ("m1", "SERVING", 2, 512)
    assert service.seen("GetModel")[0].name == "models/-"


def test_health_is_told_for_the_service_and_for_its_parts(client: Any, service: ScriptedService) -> None:
    assert client.health() is atomas.Health.SERVING
    assert client.health("atomas.v1.SearchService") is atomas.Health.NOT_SERVING


def test_a_closed_client_says_so(running: RunningService) -> None:
    client = Client(running.address)
    client.close()
    with pytest.raises(atomas.UnavailableError, match="closed"):
        client.health()


def test_one_client_serves_many_threads(running: RunningService, service: ScriptedService) -> None:
    found: list[int] = []
    with Client(running.address) as client:
        threads = [threading.Thread(target=lambda: found.append(len(client.search("acid", limit=7)))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [7] * 16


def test_a_service_restarted_on_the_same_port_is_found_again() -> None:
    with RunningService() as first, Client(first.address, timeout_seconds=20) as client:
        assert client.health() is atomas.Health.SERVING
        first.__exit__()
        with RunningService(int(first.address.rpartition(":")[2])):
            assert client.health() is atomas.Health.SERVING


def test_the_asyncio_client_mirrors_the_blocking_one() -> None:
    blocking = {name for name, value in vars(Client).items() if inspect.isfunction(value) and not name.startswith("_")}
    mirrored = {name for name, value in vars(AsyncClient).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert blocking == mirrored
    for name in blocking - {"import_compounds"}:
        assert inspect.signature(getattr(Client, name)).parameters == inspect.signature(getattr(AsyncClient, name)).parameters, name


def test_no_message_of_the_contract_leaks_out(client: Any, service: ScriptedService) -> None:
    service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "ethanol")
    service.rows["op"] = []
    service.fail("GetModel", RefusedError(grpc.StatusCode.NOT_FOUND, "No model.", reason="MODEL_NOT_FOUND"))
    for value in (client.get_compound("lib/KEY"), client.search("a"), client.operation("op"), *client.compounds("lib")):
        assert type(value).__module__ == "atomas.types"
        for name in value.__dataclass_fields__:
            assert not type(getattr(value, name)).__module__.startswith(("google", "atomas.v1"))
    with pytest.raises(atomas.NotFoundError):
        client.model()
