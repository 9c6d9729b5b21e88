"""Page tokens: opaque, bound to their request and model."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomas.v1.library_service_pb2 import ListCompoundsRequest
from atomas.v1.search_service_pb2 import SearchCompoundsRequest
from server.domain.errors import AtomasError, Reason
from server.rpc import page_tokens

REQUEST = SearchCompoundsRequest(parent="libraries/a", text="acid")


def reason_of(token: str, scope: page_tokens.Scope) -> Reason:
    with pytest.raises(AtomasError) as caught:
        page_tokens.decode(token, scope)
    return caught.value.reason


@given(st.text(), st.text(max_size=20))
def test_a_token_gives_its_cursor_back(cursor: str, model: str) -> None:
    scope = page_tokens.scope_of(REQUEST, model)
    assert page_tokens.decode(page_tokens.encode(cursor, scope), scope) == cursor


def test_no_token_is_the_first_page() -> None:
    assert page_tokens.decode("", page_tokens.scope_of(REQUEST)) == ""


def test_the_page_size_may_change_between_pages() -> None:
    token = page_tokens.encode("10", page_tokens.scope_of(REQUEST))
    again = SearchCompoundsRequest(parent="libraries/a", text="acid", page_size=50, page_token=token)
    assert page_tokens.decode(token, page_tokens.scope_of(again)) == "10"


@pytest.mark.parametrize(
    "other",
    [
        SearchCompoundsRequest(parent="libraries/a", text="base"),
        SearchCompoundsRequest(parent="libraries/b", text="acid"),
        SearchCompoundsRequest(parent="libraries/a", text="acid", filter="charge = 0"),
        ListCompoundsRequest(parent="libraries/a"),
    ],
)
def test_a_token_of_another_request_is_refused(other: SearchCompoundsRequest | ListCompoundsRequest) -> None:
    token = page_tokens.encode("10", page_tokens.scope_of(REQUEST))
    assert reason_of(token, page_tokens.scope_of(other)) is Reason.INVALID_PAGE_TOKEN


def test_search_rejects_a_page_token_from_another_model() -> None:
    token = page_tokens.encode("10", page_tokens.scope_of(REQUEST, "model-1"))
    assert reason_of(token, page_tokens.scope_of(REQUEST, "model-2")) is Reason.STALE_PAGE_TOKEN


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    scope = page_tokens.scope_of(REQUEST)
    token = page_tokens.encode("10", scope)
    place = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.sampled_from("ABCDabcd0123_-").filter(lambda c: c != token[place]))
    assert reason_of(token[:place] + letter + token[place + 1 :], scope) is Reason.INVALID_PAGE_TOKEN


@given(st.text(min_size=1))
def test_no_text_raises_anything_but_a_refusal(token: str) -> None:
    assert reason_of(token, page_tokens.scope_of(REQUEST)) is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize("cursor", ["x", "-1", "1", "1 2 3", "1 x", "9" * 30, "1.5 2", "\u0661 1", ""])
def test_a_forged_token_that_counts_wrongly_is_refused(cursor: str) -> None:
    with pytest.raises(AtomasError) as refused:
        page_tokens.numbers(cursor, 2)
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize("body", [b"5", b"null", b"[1]", b"[" * 100_000, b"\xff", b'{"a": 1}'])
def test_a_forged_token_that_is_whole_and_says_nonsense_is_refused(body: bytes) -> None:
    token = base64.urlsafe_b64encode(page_tokens._digest(body) + body).decode()
    with pytest.raises(AtomasError) as refused:
        page_tokens.decode(token, page_tokens.Scope("x"))
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN
