"""The HTTP interface as programs meet it: the methods of gRPC, their messages in JSON, their refusals with the same reasons."""

import pytest

from atomas import Client
from tests.rest.conftest import Http
from tests.running import running_server

CAFFEINE = "RYYVLZVUVIJVGH-UHFFFAOYSA-N"


def test_a_search_answers_over_http_what_it_answers_over_grpc(http: Http, client: Client) -> None:
    answer = http("POST", "/v1/libraries/chebi/compounds:search", {"text": "flavonoid glycoside", "pageSize": 5})
    assert answer.status == 200
    found = [(hit["compound"]["name"], round(hit["score"], 9)) for hit in answer.json()["hits"]]
    assert found == [
        (hit.compound.resource_name, round(hit.score, 9)) for hit in client.search("flavonoid glycoside", library="chebi", limit=5)
    ]
    assert "search;dur=" in answer.headers["server-timing"]


def test_pages_continue_each_other(http: Http) -> None:
    first = http("GET", "/v1/libraries/chebi/compounds?pageSize=3").json()
    second = http("GET", f"/v1/libraries/chebi/compounds?page_size=3&pageToken={first['nextPageToken']}").json()
    names = [compound["name"] for page in (first, second) for compound in page["compounds"]]
    assert names == sorted(set(names))
    assert len(names) == 6


def test_a_read_mask_leaves_only_what_it_names(http: Http) -> None:
    for mask in ("name,displayName", "name,display_name"):
        answer = http("POST", "/v1/libraries/chebi/compounds:search", {"text": "caffeine", "pageSize": 1, "readMask": mask})
        assert set(answer.json()["hits"][0]["compound"]) == {"name", "displayName"}


def test_a_library_is_made_changed_and_deleted(http: Http) -> None:
    made = http("POST", "/v1/libraries?libraryId=made-over-http", {"displayName": "Made"})
    assert (made.status, made.json()["name"]) == (200, "libraries/made-over-http")
    changed = http("PATCH", "/v1/libraries/made-over-http?updateMask=description", {"description": "Said later", "displayName": "ignored"})
    assert (changed.json()["displayName"], changed.json()["description"]) == ("Made", "Said later")
    assert http("POST", "/v1/libraries?libraryId=made-over-http", {}).reason == "LIBRARY_EXISTS"
    assert http("DELETE", "/v1/libraries/made-over-http").json() == {}
    gone = http("GET", "/v1/libraries/made-over-http")
    assert (gone.status, gone.reason) == (404, "LIBRARY_NOT_FOUND")


def test_a_compound_is_read_by_its_name(http: Http) -> None:
    compound = http("GET", f"/v1/libraries/chebi/compounds/{CAFFEINE}").json()
    assert compound["displayName"] == "caffeine"
    # Zero is a value, not an absence.
    assert compound["descriptors"]["charge"] == 0


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "reason"),
    [
        ("GET", "/v1/libraries/none", None, 404, "LIBRARY_NOT_FOUND"),
        ("GET", "/v1/libraries/No%20such", None, 400, "INVALID_NAME"),
        ("GET", "/v1/libraries/a%2Fcompounds%2Fb", None, 400, "INVALID_NAME"),
        ("POST", "/v1/libraries/chebi/compounds:search", {}, 400, "EMPTY_QUERY"),
        ("POST", "/v1/libraries/chebi/compounds:search", {"structure": "C1CC"}, 400, "INVALID_SMILES"),
        ("POST", "/v1/libraries/chebi/compounds:search", {"text": "x", "filter": "mass <"}, 400, "INVALID_FILTER"),
        ("POST", "/v1/libraries/chebi/compounds:search", {"colour": "red"}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search", {"text": 5}, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search", [1], 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search", b"{", 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search", b"[" * 100_000, 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search", b'{"text": "\\ud800"}', 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/libraries/chebi/compounds:search?pageSize=3", {"text": "x"}, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/libraries?colour=red", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/libraries?pageSize=many", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/libraries?pageToken=x", None, 400, "INVALID_PAGE_TOKEN"),
        ("DELETE", "/v1/libraries/chebi?force=perhaps", None, 400, "INVALID_ARGUMENT"),
        ("DELETE", "/v1/libraries/chebi", None, 400, "LIBRARY_NOT_EMPTY"),
        ("GET", "/v1/operations/none", None, 404, "OPERATION_NOT_FOUND"),
        ("GET", "/v1/nothing", None, 404, "NO_SUCH_PATH"),
        ("PUT", "/v1/libraries/chebi", None, 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_a_refusal_has_its_status_its_reason_and_a_sentence(
    http: Http, verb: str, path: str, body: object, status: int, reason: str
) -> None:
    headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else None
    answer = http(verb, path, body, headers)
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.json()["message"].endswith((".", "?"))


def test_a_body_that_is_no_json_is_refused_by_its_kind(http: Http) -> None:
    answer = http("POST", "/v1/libraries/chebi/compounds:search", b"text=x", {"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status, answer.reason) == (415, "WRONG_CONTENT_TYPE")


def test_a_request_keeps_the_id_that_its_caller_gave_it(http: Http) -> None:
    answer = http("GET", "/v1/libraries/none", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"


def test_pages_of_other_sites_may_neither_write_nor_come_under_another_name(http: Http) -> None:
    path = "/v1/libraries/chebi/compounds:search"
    assert http("POST", path, {"text": "x"}, {"Origin": "http://elsewhere.example"}).reason == "CROSS_SITE"
    assert http("POST", path, {"text": "x"}, {"Sec-Fetch-Site": "cross-site"}).reason == "CROSS_SITE"
    assert http("POST", path, {"text": "x"}, {"Origin": http.url.rstrip("/")}).status == 200
    assert http("GET", "/v1/libraries", headers={"Host": "elsewhere.example"}).reason == "WRONG_HOST"


def test_answers_forbid_what_no_answer_needs(http: Http) -> None:
    headers = http("GET", "/v1/libraries").headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_limits_hold_and_a_server_may_go_without_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("limited")
    with running_server(
        folder / "data", http_body_bytes="2000", http_upload_bytes="2000", http_hosts="127.0.0.1,atomas.example"
    ) as limited:
        http = Http(limited.url)
        assert http("POST", "/v1/embeddings:embedTexts", {"texts": ["x" * 3_000]}).reason == "BODY_TOO_LARGE"
        assert http("POST", "/v1/libraries/x/compounds:import?source=x.smi&allowMissing=true", b"C\n" * 2_000).reason == "BODY_TOO_LARGE"
        assert http("GET", "/v1/libraries", headers={"Host": "atomas.example"}).json()["libraries"] == []
    with running_server(folder / "data", http_listen="") as without, Client(without.address) as client:
        assert without.url == ""
        assert list(client.libraries()) == []
