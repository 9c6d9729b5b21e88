"""Random requests of every method, made from the descriptors that reflection gives: refusals with reasons, or answers, and nothing else."""

from itertools import repeat

import grpc
import pytest
from google.longrunning import operations_proto_pb2 as operations
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from atomas.v1 import library_service_pb2 as libraries
from atomas.v1 import model_service_pb2 as models
from benchmarks.fuzz import LIBRARY, Findings, fuzz
from benchmarks.random_requests import RandomRequests, nasty_structures
from server.domain.libraries import Library
from server.rpc.access_rules import RULES
from server.usecases.manage_libraries import create_library
from tests.builders import import_rows, row
from tests.security.served import call, served
from tests.security.test_access import reflected, refusal
from tests.unit.conftest import World

CALLS = 600


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_whatever_is_answered_with_a_fault(world: World, seed: int) -> None:
    create_library(Library(LIBRARY), world.ports)
    import_rows(world.ports, [row(1, "CCO", "id-1", "ethanol", "a primary alcohol"), row(2, "nonsense"), row(3, "CCN")], library=LIBRARY)
    world.work()
    found, left = Findings(), iter(repeat(True, CALLS))
    with served(world.ports, auth_required=False) as service:
        fuzz(service.address, seed, lambda: next(left, False), found, call_seconds=0.5)
    assert not found.faults, "\n".join(found.faults[:5])
    assert set(found.methods) == set(RULES)
    # Most are refused for what they say; some are good enough to be answered.
    assert found.codes["OK"] > 20
    assert found.codes["INVALID_ARGUMENT"] > 100


def test_bytes_that_are_no_message_are_refused_with_a_reason(world: World) -> None:
    with served(world.ports, auth_required=False) as service, grpc.insecure_channel(service.address) as channel:
        for method in reflected(channel).values():
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, method, Nonsense(), "", bytes)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method.full_name
            assert "no message" in str(refused.value.details())


def test_what_a_fuzzer_once_found_is_refused_with_a_reason(world: World) -> None:
    with served(world.ports, auth_required=False) as service, grpc.insecure_channel(service.address) as channel:
        methods = reflected(channel)
        found = [
            ("/atomas.v1.ModelService/ReindexCompounds", models.ReindexCompoundsRequest(path="/no\0where")),
            # Refusals travel in headers, which have no room for what is repeated at length.
            ("/atomas.v1.ModelService/ReindexCompounds", models.ReindexCompoundsRequest(path="/nowhere" * 5_000)),
            ("/atomas.v1.LibraryService/UpdateLibrary", libraries.UpdateLibraryRequest(update_mask=FieldMask(paths=["é" * 30_000]))),
            (
                "/google.longrunning.Operations/WaitOperation",
                operations.WaitOperationRequest(timeout=Duration(seconds=2**63 - 1, nanos=2**31 - 1)),
            ),
        ]
        for path, message in found:
            code, said, reason = refusal(channel, methods[path], message, "")
            assert (code is grpc.StatusCode.INVALID_ARGUMENT, bool(reason), len(said) < 700) == (True, True, True), (path, code, said[:200])


class Nonsense:
    """A field without its end."""

    def SerializeToString(self) -> bytes:
        return b"\x0a\xff"


def test_the_same_seed_sends_the_same() -> None:
    from atomas.v1.search_service_pb2 import DESCRIPTOR

    method = DESCRIPTOR.services_by_name["SearchService"].methods_by_name["SearchCompounds"]
    first, second, other = (RandomRequests(seed, "kept") for seed in (1, 1, 2))
    sent = [
        [message.SerializeToString(deterministic=True) for _ in range(20) for message in each.messages(method)]
        for each in (first, second, other)
    ]
    assert sent[0] == sent[1] != sent[2]
    assert len(nasty_structures()) > 200
