"""Structures, texts and names of queries and imports reach no log and no metric: marked ones are sent, and looked for everywhere."""

import json
from pathlib import Path

import pytest

from atomas import AtomasError, Client
from tests.rest.conftest import Http
from tests.running import RunningServer, running_server

# An isotope that no other test uses, and words that are in no other text.
SMILES, TEXT, NAME = "[14CH3]C([2H])CCCCCl", "zanzibarite", "quagmirine"
BROKEN = "C1CC(quagmirine"


def search_and_import(server: RunningServer) -> None:
    """What works and what is refused, over gRPC and HTTP."""
    with Client(server.address) as client:
        rows = [{"smiles": SMILES, "name": NAME, "text": TEXT}, {"smiles": BROKEN, "name": NAME}]
        report = client.import_compounds(rows, library="confidential", source=f"{NAME}.csv")
        assert report.operation
        client.search(f"{TEXT} alcohol", library="confidential")
        client.search(smiles=SMILES, library="confidential")
        client.embed_texts([TEXT])
        for ask in (
            lambda: client.search(smiles=BROKEN, library="confidential"),
            lambda: client.search(TEXT, library="confidential", filter=f"{NAME} = {TEXT} ("),
            lambda: client.get_compound(f"confidential/{NAME}"),
            lambda: client.get_library(NAME + "?"),
        ):
            with pytest.raises(AtomasError):
                ask()
    http = Http(server.url)
    assert http("POST", "/v1/libraries/confidential/compounds:search", {"text": TEXT}).status == 200
    assert http("POST", "/v1/libraries/confidential/compounds:search", {"structure": BROKEN}).status == 400
    assert http("POST", f"/v1/libraries/confidential/compounds:search?{NAME}={TEXT}", {}).status == 400


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_log_holds_what_was_asked_or_imported(tmp_path: Path, form: str) -> None:
    with running_server(tmp_path / "data", log_level="debug", log_format=form) as server:
        search_and_import(server)
    log = server.log.read_text()
    assert "SearchCompounds" in log, "the log holds nothing at all"
    for marked in (SMILES, "14CH3", TEXT, NAME, BROKEN):
        assert marked.lower() not in log.lower(), next(line for line in log.splitlines() if marked.lower() in line.lower())
    if form == "json":
        calls = [json.loads(line) for line in log.splitlines() if '"event": "call"' in line]
        assert calls
        assert all(call["request_id"] and call["method"] and call["code"] for call in calls)
