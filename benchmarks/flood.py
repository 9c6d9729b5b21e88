"""Memory of the service while it is flooded: calls by the thousand, messages as large as they may be, imports faster than anybody reads them.

python -m benchmarks.flood [--clients 64] [--seconds 20] [--message-mib 8]

Each kind of flood for so long, on loopback, against `python -m server` with its defaults in a process of its own; what is refused is counted, a
call that fails otherwise ends the run with 1, as does memory beyond LIMIT_BYTES above what the service held at rest.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc

from atomas import Client
from atomas.v1 import embedding_service_pb2, library_service_pb2, search_service_pb2
from atomas.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from atomas.v1.library_service_pb2_grpc import LibraryServiceStub
from atomas.v1.search_service_pb2_grpc import SearchServiceStub
from benchmarks.load import Memory, started

MIB = 1 << 20
LIMIT_BYTES = 1024 * MIB
CALL_SECONDS = 20.0
EXPECTED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT"}
# How grpc.aio's client tells of a deadline that passed while it was writing.
WRITING_AFTER_THE_END = "Internal error from Core"
# Calls that each connection keeps under way.
AT_ONCE = 32

Flood = Callable[[Any], Awaitable[object]]


def main() -> None:
    """Prints what each flood did; the exit code is the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--message-mib", type=float, default=8.0)
    options = parser.parse_args()
    large = "x" * int(options.message_mib * MIB)
    floods: dict[str, tuple[Flood, int]] = {
        "small searches": (small_search, AT_ONCE),
        "large messages": (lambda channel: large_message(channel, large), 2),
        "imports without end": (endless_import, 1),
    }
    bad = False
    with tempfile.TemporaryDirectory() as name, started(Path(name) / "data") as (address, process):
        with Client(address) as client:
            client.import_compounds(["CCO", "CCN"], library="flooded")
        memory = Memory(process.pid)
        rest = memory.now()
        print(f"at rest {rest / MIB:.0f} MiB")
        for kind, (flood, at_once) in floods.items():
            with memory.watched():
                seen = asyncio.run(flooded(address, flood, options.clients, at_once, options.seconds))
            more = memory.highest - rest
            bad |= more > LIMIT_BYTES or not set(seen) <= EXPECTED
            said = ", ".join(f"{code} {count:,}" for code, count in seen.most_common())
            print(
                f"{kind:<20} {options.clients} connections, {at_once} calls each: {said}; at the most {more / MIB:.0f} MiB more (limit {LIMIT_BYTES // MIB})"
            )
        with Client(address) as client:
            assert client.search("an alcohol", library="flooded").hits, "the service does not answer after the flood"
    sys.exit(bad)


async def flooded(address: str, flood: Flood, connections: int, at_once: int, seconds: float) -> Counter[str]:
    """How the calls ended, by code."""
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def keep_calling(channel: Any) -> None:
        while time.monotonic() < end:
            try:
                await flood(channel)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                if error.details() == WRITING_AFTER_THE_END:
                    code = grpc.StatusCode.DEADLINE_EXCEEDED.name
                seen[code if code in EXPECTED else f"{code} ({error.details()})"] += 1

    async def connect() -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", 64 * MIB)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            await asyncio.gather(*(keep_calling(channel) for _ in range(at_once)))

    await asyncio.gather(*(connect() for _ in range(connections)))
    return seen


async def small_search(channel: Any) -> object:
    """One of very many."""
    asked = search_service_pb2.SearchCompoundsRequest(parent="libraries/flooded", text="an alcohol")
    return await cast("Any", SearchServiceStub(channel)).SearchCompounds(asked, timeout=CALL_SECONDS)


async def large_message(channel: Any, text: str) -> object:
    """A text that no model reads."""
    asked = embedding_service_pb2.EmbedTextsRequest(texts=[text])
    return await cast("Any", EmbeddingServiceStub(channel)).EmbedTexts(asked, timeout=CALL_SECONDS)


async def endless_import(channel: Any) -> object:
    """As many rows as the network takes, without waiting for acknowledgements, until the deadline."""
    rows = [library_service_pb2.ImportRow(position=1, smiles="C" * 2_000) for _ in range(100)]

    async def steps() -> AsyncIterator[library_service_pb2.ImportCompoundsRequest]:
        start = library_service_pb2.ImportCompoundsRequest.Start(parent="libraries/flooded", request_id=str(uuid.uuid4()))
        yield library_service_pb2.ImportCompoundsRequest(start=start)
        offset = 0
        while True:
            for number, row in enumerate(rows):
                row.position = offset + number + 1
            yield library_service_pb2.ImportCompoundsRequest(rows=library_service_pb2.ImportCompoundsRequest.Rows(offset=offset, rows=rows))
            offset += len(rows)

    async for _ in cast("Any", LibraryServiceStub(channel)).ImportCompounds(steps(), timeout=CALL_SECONDS / 2):
        pass
    return None


if __name__ == "__main__":
    main()
