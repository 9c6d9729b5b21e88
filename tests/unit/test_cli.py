"""The command line against a real gRPC server: output, exit codes, one clear line for every failure."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

import atomas
from atomas import commands, display, waiting
from tests.unit.scripted_service import RefusedError, RunningService, ScriptedService, compound

COMMAND = [sys.executable, "-m", "atomas.cli"]
INCHIKEY = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"


@pytest.fixture(scope="module")
def running() -> Iterator[RunningService]:
    with RunningService() as started:
        yield started


@pytest.fixture
def service(running: RunningService, monkeypatch: pytest.MonkeyPatch) -> ScriptedService:
    running.service.__init__()  # type: ignore[misc]  # a new server for each test would take much longer
    monkeypatch.setenv("ATOMAS_ADDRESS", running.address)
    monkeypatch.setattr(waiting, "_FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.delenv("COLUMNS", raising=False)
    return running.service


@pytest.fixture
def atomas_(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line; returns exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = commands.run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


Run = Callable[..., tuple[int, str, str]]


def test_search_prints_a_table_of_rank_score_name_structure_and_why(atomas_: Run) -> None:
    code, out, err = atomas_("search", "a carboxylic acid", "--library", "chebi", "--limit", "3")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0] == ["rank", "score", "name", "SMILES", "why"]
    assert [(line[0], line[1]) for line in lines[2:]] == [("1", "1.000"), ("2", "0.500"), ("3", "0.333")]
    assert "compound 1" in out
    assert "acid; molecules 0.50 (no. 1)" in out
    assert "\x1b" not in out


def test_search_says_what_it_took_the_query_for_and_when_nothing_matches(atomas_: Run) -> None:
    code, out, err = atomas_("search", "acd", "--limit", "1")
    assert code == 0
    assert out.splitlines()[0] == "Taken for the name 'acid'."
    assert err == "atomas: these hits match no better than they would match a query without meaning.\n"
    document = json.loads(atomas_("search", "acd", "--limit", "1", "--json")[1])
    assert document["interpretation"] == {"kind": "NAME", "smiles": "", "corrected_name": "acid"}
    assert document["no_good_match"] is True


def test_search_takes_several_libraries_and_weights(atomas_: Run, service: ScriptedService) -> None:
    assert atomas_("search", "acid", "--limit", "1", "-l", "one", "-l", "two", "--weight", "lexical=0.5", "--weight", "texts=2")[0] == 0
    assert atomas_("search", "--text", "CCO", "--limit", "1", "-l", "one")[0] == 0
    both, words = service.seen("SearchCompounds")
    assert (both.parent, list(both.libraries), dict(both.leg_weights)) == (
        "libraries/-",
        ["libraries/one", "libraries/two"],
        {"lexical": 0.5, "texts": 2.0},
    )
    assert (words.text, words.parent) == ("CCO", "libraries/one")
    code, _, err = atomas_("search", "acid", "--weight", "lexical")
    assert code == 2
    assert "LEG=NUMBER" in err


def test_search_answers_every_line_of_a_file(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    file = tmp_path / "queries.txt"
    file.write_text("acid\n\n  a ketone \n")
    code, out, err = atomas_("search", "--batch", str(file), "--limit", "2", "--ids-only", "--library", "lib")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "# acid"
    assert out.splitlines()[3] == "# a ketone"
    [sent] = service.seen("BatchSearchCompounds")
    assert [(each.query, each.parent, each.page_size) for each in sent.requests] == [
        ("acid", "libraries/lib", 2),
        ("a ketone", "libraries/lib", 2),
    ]
    document = json.loads(atomas_("search", "--batch", str(file), "--json")[1])
    assert [search["query"] for search in document["searches"]] == ["acid", "a ketone"]
    assert [hit["rank"] for hit in document["searches"][1]["hits"]][:3] == [1, 2, 3]
    code, _, err = atomas_("search", "--batch", str(tmp_path / "none.txt"))
    assert (code, "cannot be read" in err) == (1, True)


def test_search_as_json_is_one_document(atomas_: Run) -> None:
    code, out, err = atomas_("search", "acid", "--limit", "2", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    first = document["hits"][0]
    assert document["model"] == "models/m1"
    assert (first["rank"], first["score"]) == (1, 1.0)
    assert (first["compound"]["name"], first["compound"]["smiles"], first["compound"]["inchikey"]) == ("compound 1", "CCO", "KEY1")
    assert first["compound"]["descriptors"]["formula"] == "C2H6O"
    assert first["compound"]["metadata"] == {"source": "ChEBI", "stars": 3, "tags": ["x", None], "nested": {"yes": True}}
    assert first["legs"] == [{"leg": "molecules", "score": 0.5, "rank": 1, "weight": 2.0}]
    assert first["matched_words"] == ["acid"]


def test_ids_only_as_json_holds_no_fields_that_were_not_fetched(atomas_: Run) -> None:
    document = json.loads(atomas_("search", "acid", "--limit", "1", "--ids-only", "--json")[1])
    assert document["hits"] == [{"rank": 1, "score": 1.0, "compound": {"resource_name": "libraries/lib/compounds/KEY1"}}]


@pytest.mark.parametrize("library", ["chebi", "libraries/chebi"])
def test_search_sends_its_options(atomas_: Run, service: ScriptedService, library: str) -> None:
    arguments = ("--library", library, "--limit", "3", "--filter", "clogp < 2", "--target", "texts", "--ids-only")
    code, out, _ = atomas_("search", "--smiles", "CCO", *arguments)
    assert code == 0
    assert out.splitlines() == [f"libraries/lib/compounds/KEY{n}" for n in (1, 2, 3)]
    request = service.seen("SearchCompounds")[0]
    assert (request.parent, request.structure, request.filter) == ("libraries/chebi", "CCO", "clogp < 2")
    assert (request.target, list(request.read_mask.paths)) == (request.TEXTS, ["name"])


def test_search_by_file_and_by_compound(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    path = tmp_path / "query.mol"
    path.write_text("a molblock\nM  END\n")
    assert atomas_("search", "--structure-file", str(path), "--limit", "1")[0] == 0
    assert atomas_("search", "--compound", f"chebi/{INCHIKEY}", "--limit", "1")[0] == 0
    by_file, by_compound = service.seen("SearchCompounds")
    assert by_file.structure == path.read_text()
    assert by_compound.compound == f"libraries/chebi/compounds/{INCHIKEY}"
    assert by_file.parent == "libraries/-"


def test_search_without_hits_says_so_and_is_fine(atomas_: Run, service: ScriptedService) -> None:
    service.hit_count = 0
    assert atomas_("search", "nothing") == (0, "", "atomas: no hits.\n")
    assert json.loads(atomas_("search", "nothing", "--json")[1])["hits"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("search",),
        ("search", "a", "--smiles", "C"),
        ("search", "a", "--limit", "many"),
        ("search", "a", "--limit", "-1"),
        ("search", "a", "--target", "everything"),
        ("search", "a", "--no-such-option"),
        ("fly",),
        ("import", "a.smi"),
        ("import", "a.smi", "--library", "l", "--format", "excel"),
        ("import", "a.smi", "--library", "l", "--rejects", "r", "--no-wait"),
        ("get",),
        ("embed",),
        ("operations", "--cancel"),
        ("operations", "x", "--cancel", "--rejects"),
    ],
)
def test_wrong_usage_exits_2_and_sends_nothing(atomas_: Run, service: ScriptedService, arguments: tuple[str, ...]) -> None:
    code, out, err = atomas_(*arguments)
    assert code == 2
    assert out == ""
    assert err
    assert service.requests == []


def test_a_refusal_exits_1_with_one_line(atomas_: Run, service: ScriptedService) -> None:
    service.fail("SearchCompounds", RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "The query\nis empty.", reason="EMPTY_QUERY"))
    assert atomas_("search", "") == (1, "", "atomas: The query is empty.\n")


def test_an_internal_error_names_the_request(atomas_: Run, service: ScriptedService) -> None:
    service.fail("CreateLibrary", RefusedError(grpc.StatusCode.INTERNAL, "The service failed.", reason="INTERNAL"))
    assert atomas_("libraries", "create", "x") == (1, "", "atomas: The service failed. (request request-1)\n")


@pytest.mark.parametrize("arguments", [("search", "a"), ("libraries",), ("get", "lib/KEY"), ("operations",), ("models",), ("embed", "a")])
def test_an_unreachable_service_exits_1_and_says_how_to_start_it(
    atomas_: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ATOMAS_ADDRESS", "127.0.0.1:1")
    code, out, err = atomas_(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("atomas: No Atomas service answers at 127.0.0.1:1: start it with `python -m server`")
    assert err.count("\n") == 1


@pytest.mark.parametrize("before", [True, False])
def test_the_address_may_stand_before_or_after_the_command(
    atomas_: Run, running: RunningService, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setenv("ATOMAS_ADDRESS", "127.0.0.1:1")
    option = ["--address", running.address]
    for words in (["models"], ["libraries"], ["libraries", "create", f"made-{before}".lower()]):
        assert atomas_(*(option + words if before else words + option))[0] == 0


def test_a_wrong_address_is_one_line(atomas_: Run) -> None:
    code, _, err = atomas_("--address", "http://localhost", "models")
    assert code == 1
    assert "host:port" in err


def test_libraries_are_made_listed_and_deleted(atomas_: Run, service: ScriptedService) -> None:
    assert atomas_("libraries", "create", "lib", "--name", "My library", "--description", "CC0")[:2] == (0, "Made libraries/lib.\n")
    service.libraries["libraries/lib"].compound_count = 12345
    code, out, _ = atomas_("libraries")
    assert code == 0
    assert "12,345" in out
    assert "My library" in out
    listed = json.loads(atomas_("libraries", "--json")[1])["libraries"]
    assert [(each["id"], each["name"], each["compound_count"]) for each in listed] == [("lib", "My library", 12345)]
    code, _, err = atomas_("libraries", "delete", "libraries/lib")
    assert (code, err) == (1, "atomas: libraries/lib is not empty.\n")
    assert atomas_("libraries", "delete", "libraries/lib", "--force")[0] == 0
    assert service.libraries == {}


@pytest.mark.parametrize(
    "arguments", [(f"lib/{INCHIKEY}",), (f"libraries/lib/compounds/{INCHIKEY}",), (INCHIKEY, "--library", "lib"), (INCHIKEY,)]
)
def test_a_compound_is_shown_however_it_is_named(atomas_: Run, service: ScriptedService, arguments: tuple[str, ...]) -> None:
    for library in ("empty", "lib"):
        atomas_("libraries", "create", library)
    service.compounds[f"libraries/lib/compounds/{INCHIKEY}"] = compound(INCHIKEY, "ethanol")
    code, out, _ = atomas_("get", *arguments)
    assert code == 0
    assert all(part in out for part in ("ethanol", "CCO", INCHIKEY, "46.07", "metadata.source", "ChEBI"))
    assert json.loads(atomas_("get", *arguments, "--json")[1])["name"] == "ethanol"


def test_a_compound_in_no_library_exits_1(atomas_: Run) -> None:
    code, _, err = atomas_("get", INCHIKEY)
    assert code == 1
    assert "No library holds" in err


def rows_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text('{"smiles": "CCO", "name": "ethanol"}\nnot JSON\n{"smiles": "CCN"}\n')
    return path


def test_import_tells_what_became_of_every_row(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    code, out, err = atomas_("import", str(rows_file(tmp_path)), "--library", "lib")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "3 rows into lib: 2 created, 0 updated, 0 already there, 1 rejected (UNREADABLE 1)."
    assert "--rejects" in second


def test_import_as_json_is_one_document(atomas_: Run, tmp_path: Path) -> None:
    code, out, err = atomas_("import", str(rows_file(tmp_path)), "--library", "lib", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["library"], document["state"], document["rows"]) == ("lib", "SUCCEEDED", 3)
    assert document["counts"]["created"] == 2
    assert document["counts"]["rejected_by_reason"] == {"UNREADABLE": 1}


def test_rejected_rows_are_saved_to_be_mended_and_imported_again(atomas_: Run, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    assert atomas_("import", str(rows_file(tmp_path)), "--library", "lib", "--rejects", str(rejects))[0] == 0
    (line,) = rejects.read_text().splitlines()
    saved = json.loads(line)
    assert saved["rejection"] == {"position": 2, "reason": "UNREADABLE", "message": "The line is not JSON: Expecting value."}
    assert saved["metadata"] == {"source_text": "not JSON"}
    mended = json.dumps({"smiles": "C", **saved})
    rejects.write_text(mended + "\n")
    (row,) = atomas.read_rows(rejects)
    assert row.smiles == "C"
    assert "rejection" not in row.metadata


def test_rejects_that_cannot_be_written_exit_1_after_the_import(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    code, _, err = atomas_("import", str(rows_file(tmp_path)), "--library", "lib", "--rejects", str(tmp_path / "no" / "folder"))
    assert code == 1
    assert "the import is done, but" in err
    assert len(service.rows) == 1


def test_import_without_waiting_names_the_operation(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    service.polls_until_done = 100
    code, out, _ = atomas_("import", str(rows_file(tmp_path)), "--library", "lib", "--no-wait")
    (operation,) = service.rows
    assert (code, out) == (0, f"3 rows are safe in lib; follow them by `atomas operations operations/{operation}`.\n")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.smi", None, "There is no file"),
        ("a.csv", b"id,name\n1,x\n", "no column of structures"),
        ("a.smi", bytes(range(256)), "binary"),
        ("a.smi.gz", b"\x1f\x8b\x08\0", "damaged or cut off"),
        ("a.smi", b"", "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_exits_1_with_one_line(
    atomas_: Run, service: ScriptedService, tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = atomas_("import", str(tmp_path / name), "--library", "lib")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert complaint in err
    assert service.requests == []


def test_a_failed_and_a_cancelled_import_exit_1(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    service.operation_error = status_pb2.Status(code=13, message="The encoder broke.")
    code, _, err = atomas_("import", str(rows_file(tmp_path)), "--library", "lib")
    assert (code, err) == (1, "atomas: The encoder broke.\n")
    service.operation_error = status_pb2.Status(code=1, message="Cancelled.")
    code, _, err = atomas_("import", str(rows_file(tmp_path)), "--library", "lib")
    assert code == 1
    assert "was cancelled" in err


def test_operations_are_listed_shown_cancelled_and_their_rejects_seen(atomas_: Run, service: ScriptedService, tmp_path: Path) -> None:
    atomas_("import", str(rows_file(tmp_path)), "--library", "lib")
    (operation,) = service.rows
    code, out, _ = atomas_("operations")
    assert code == 0
    assert operation in out
    assert "SUCCEEDED" in out
    assert json.loads(atomas_("operations", "--json")[1])["operations"][0]["resource_name"] == f"operations/{operation}"
    assert "UNREADABLE" in atomas_("operations", operation, "--rejects")[1]
    assert json.loads(atomas_("operations", operation, "--rejects", "--json")[1])["rejections"][0]["position"] == 2
    code, out, _ = atomas_("operations", f"operations/{operation}", "--cancel")
    assert code == 0
    assert "CANCELLED" in out
    assert atomas_("operations", "unknown")[0] == 1


def test_models_and_vectors_are_printed(atomas_: Run) -> None:
    assert "m1" in atomas_("models")[1]
    assert json.loads(atomas_("models", "--json")[1])["models"][0]["id"] == "m1"
    document = json.loads(atomas_("embed", "one", "three")[1])
    assert [(each["input"], each["vector"]) for each in document["embeddings"]] == [("one", [3.0, 0.0]), ("three", [5.0, 0.0])]
    assert json.loads(atomas_("embed", "--kind", "structure", "CCO")[1])["embeddings"][0]["vector"] == [0.0, 3.0]
    code, out, err = atomas_("embed", "one", "")
    assert code == 1
    assert json.loads(out)["embeddings"][1]["reason"] == "EMPTY_QUERY"
    assert "no vector" in err


def test_the_version_is_told(atomas_: Run) -> None:
    assert atomas_("--version") == (0, f"atomas {atomas.__version__}\n", "")


def test_what_a_terminal_would_obey_is_not_printed(atomas_: Run, service: ScriptedService) -> None:
    service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "evil \x1b]0;title\x07 \x9b31m [red]name[/red] [bold")
    out = atomas_("get", "lib/KEY")[1]
    assert not any(control in out for control in ("\x1b", "\x07", "\x9b"))
    assert "[red]name[/red] [bold" in out


def test_structures_with_brackets_are_printed_whole(atomas_: Run, service: ScriptedService) -> None:
    chiral = compound("KEY", "alanine")
    chiral.smiles = "C[C@H](N)C(=O)O.[Na+].[/b]"
    service.compounds[chiral.name] = chiral
    assert chiral.smiles in atomas_("get", "lib/KEY")[1]


def test_names_beyond_the_terminals_alphabet_are_replaced_not_fatal(service: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.compounds["libraries/lib/compounds/KEY"] = compound("KEY", "α-tocopherol")
    for arguments in (["get", "lib/KEY"], ["get", "lib/KEY", "--json"]):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", out)
        assert commands.run(arguments) == 0
        out.flush()
        assert b"-tocopherol" in out.buffer.getvalue()


def test_an_unforeseen_fault_is_one_line_without_a_traceback(atomas_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(display, "print_models", fail)
    code, _, err = atomas_("models")
    assert code == 1
    assert err == "atomas: this should not have happened (RuntimeError: boom); please report it.\n"


def test_ctrl_c_exits_130_without_a_traceback(atomas_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomas.Client, "models", interrupt)
    assert atomas_("models") == (130, "", "atomas: interrupted.\n")


# Real processes


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from atomas import cli; cli.main()"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"atomas: the command line needs {missing}: run `pip install 'atomas[cli]'`.\n"


def test_a_piped_reader_that_leaves_early_causes_no_traceback(service: ScriptedService) -> None:
    service.hit_count = 1_000
    process = subprocess.run(
        f"{' '.join(COMMAND)} search acid --limit 1000 | head -1", shell=True, capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert "Traceback" not in process.stderr


def test_ctrl_c_in_a_real_import_leaves_one_line(service: ScriptedService, tmp_path: Path) -> None:
    service.polls_until_done = 10**9
    process = subprocess.Popen(
        [*COMMAND, "import", str(rows_file(tmp_path)), "--library", "lib"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    while service.polls < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    (operation,) = service.rows
    assert (out, err) == ("", f"atomas: interrupted; 3 rows are safe, follow them by `atomas operations operations/{operation}`.\n")


def test_a_terminal_gets_a_progress_bar_and_a_pipe_gets_none(service: ScriptedService, tmp_path: Path) -> None:
    service.polls_until_done = 3
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "import", str(rows_file(tmp_path)), "--library", "lib"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0
    assert b"Sending" in seen
    assert b"Indexing" in seen
    assert "\x1b" not in out
    assert out.startswith("3 rows into lib:")
