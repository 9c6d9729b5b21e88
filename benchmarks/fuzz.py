"""Random requests of every method that reflection names, against a live server: nothing may crash, answer INTERNAL, or make memory grow.

python -m benchmarks.fuzz [--seconds 300] [--seed 0] [--threads 8] [--address HOST:PORT]

Without an address `python -m server` is started with its defaults in an empty folder. What went wrong is printed with the requests that did it.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory, text_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from atomas import Client
from benchmarks.load import Memory, started
from benchmarks.random_requests import OWN, RandomRequests
from server.rpc.access_rules import OPEN_SERVICES

CALL_SECONDS = 5.0
MOST_ANSWERS = 20
NONSENSE_SHARE = 0.03
LIBRARY = "kept"
# Ends of calls that only a fault of the service explains, and UNAVAILABLE unless it is said what is away.
WRONG = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
GROWTH_BYTES = 400 << 20


@dataclass
class Findings:
    """What came of the requests."""

    codes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    # What went wrong, with the requests.
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Prints how calls ended; exits with 1 for any fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--address", help="of a running server, whose memory is then not looked at")
    options = parser.parse_args()
    with ExitStack() as stack:
        memory, address = None, options.address
        if address is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            address, process = stack.enter_context(started(folder / "data"))
            memory = Memory(process.pid)
        prepare(address)
        found = Findings()
        end = time.monotonic() + options.seconds

        def work() -> None:
            for number in range(options.threads):
                threads.append(threading.Thread(target=fuzz, args=(address, options.seed + number, lambda: time.monotonic() < end, found)))
                threads[-1].start()
            for thread in threads:
                thread.join()

        threads: list[threading.Thread] = []
        if memory:
            with memory.watched():
                work()
        else:
            work()
        with Client(address) as client:
            assert client.search("an alcohol", library=LIBRARY).hits, "the service does not answer any more"
        grown = memory.growth() if memory else 0
    print(
        f"{found.codes.total():,} calls of {len(found.methods)} methods: "
        + ", ".join(f"{code} {n:,}" for code, n in found.codes.most_common())
    )
    if memory:
        print(
            f"memory: highest {memory.highest >> 20} MiB, {grown / 2**20:+.0f} MiB from the second fifth to the last (limit {GROWTH_BYTES >> 20})"
        )
    for fault in found.faults[:20]:
        print(f"FAULT {fault}")
    print(f"{len(found.faults):,} faults")
    sys.exit(bool(found.faults) or grown > GROWTH_BYTES)


def prepare(address: str) -> None:
    """A library to ask about."""
    with Client(address) as client:
        rows = [{"smiles": "C" * length + "O", "id": f"K:{length}", "name": f"alcohol {length}"} for length in range(1, 40)]
        client.import_compounds(rows, library=LIBRARY)
        client.import_compounds(["CCO"], library=OWN)


def fuzz(address: str, seed: int, go_on: Callable[[], bool], found: Findings, call_seconds: float = CALL_SECONDS) -> None:
    """Sends requests for as long as it is told to, to one method after the other."""
    requests = RandomRequests(seed, LIBRARY)
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        methods = sorted(reflected(channel).items())
        turn = 0
        while go_on():
            path, method = methods[turn % len(methods)]
            turn += 1
            _call(channel, path, method, requests, found, call_seconds)


def reflected(channel: grpc.Channel) -> dict[str, MethodDescriptor]:
    """Every method that the server says it has, by path, without those of health and reflection."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool: Any = DescriptorPool(database)
    return {
        f"/{name}/{method.name}": method
        for name in database.get_services()
        if name not in OPEN_SERVICES
        for method in pool.FindServiceByName(name).methods
    }


def _call(channel: grpc.Channel, path: str, method: MethodDescriptor, requests: RandomRequests, found: Findings, seconds: float) -> None:
    sent = [message.SerializeToString() for message in requests.messages(method)]
    if requests.chance(NONSENSE_SHARE):
        sent = [requests.nonsense()]
    answer = message_factory.GetMessageClass(method.output_type).FromString
    found.methods[path] += 1
    try:
        for message in _answers(channel, path, method, sent, answer, seconds):
            requests.learn(message)
        found.codes["OK"] += 1
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        code = error.code()
        found.codes[code.name] += 1
        if fault := _fault(error):
            found.faults.append(f"{path}: {code.name}: {fault}\n{_shown(method, sent)}")


def _answers(channel: Any, path: str, method: MethodDescriptor, sent: list[bytes], answer: Any, seconds: float) -> Iterator[Any]:
    if method.client_streaming:
        yield from islice(channel.stream_stream(path, None, answer)(iter(sent), timeout=seconds), MOST_ANSWERS)
    elif method.server_streaming:
        call = channel.unary_stream(path, None, answer)(sent[0], timeout=seconds)
        yield from islice(call, MOST_ANSWERS)
        call.cancel()
    else:
        yield channel.unary_unary(path, None, answer)(sent[0], timeout=seconds)


def _fault(error: Any) -> str:
    """What is wrong with a refusal; empty when it is one as it should be."""
    code, details = error.code(), str(error.details())
    if code in WRONG:
        return details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ""
    trailing = {item.key: item.value for item in error.trailing_metadata() or ()}
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b"")).details:
        detail.Unpack(info)
    return "" if info.reason and info.domain == "atomas" and details else f"no reason: {details}"


def _shown(method: MethodDescriptor, sent: list[bytes]) -> str:
    shown = []
    for content in sent[:5]:
        try:
            shown.append(
                text_format.MessageToString(message_factory.GetMessageClass(method.input_type).FromString(content), as_one_line=True)[:1500]
            )
        except Exception:
            shown.append(repr(content))
    return "  " + "\n  ".join(shown)


if __name__ == "__main__":
    main()
