"""Clients of a load test: each searches, now and then imports, and notes what every call came to and how long it took."""

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from google.longrunning import operations_pb2_grpc, operations_proto_pb2
from google.protobuf.duration_pb2 import Duration

from atomas.importing import Batcher
from atomas.v1 import library_service_pb2 as libraries
from atomas.v1 import search_service_pb2 as search
from atomas.v1.library_service_pb2_grpc import LibraryServiceStub
from atomas.v1.search_service_pb2_grpc import SearchServiceStub

# Of all that a client does.
SHARES = {"text": 70, "structure": 10, "filter": 8, "substructure": 5, "import": 7}
IMPORT_ROWS = 20
CALL_SECONDS = 60.0
# A client that was told to come back later does so.
PAUSE_SECONDS = 0.2
LIBRARY, WRITTEN = "chebi", "load"


@dataclass
class Tally:
    """What came of the calls of all clients."""

    # Seconds of those that succeeded, by kind.
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in SHARES})
    # Refusals as RESOURCE_EXHAUSTED, by kind.
    refused: Counter[str] = field(default_factory=Counter)
    # Everything else that is no success, by code and message.
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def searches(self) -> list[float]:
        """Seconds of all searches."""
        return [second for kind, seconds in self.seconds.items() if kind != "import" for second in seconds]


@dataclass(frozen=True)
class Traffic:
    """What the clients ask, and the rows that they import."""

    texts: Sequence[str]
    structures: Sequence[str]
    rows: Sequence[dict[str, Any]]
    seed: int = 0

    @classmethod
    def of(cls, lines: Sequence[str], texts: Sequence[str]) -> "Traffic":
        """Structures and rows from lines of the shipped library."""
        rows = [json.loads(line) for line in lines]
        return cls(texts, [row["smiles"] for row in rows[:500]], rows)

    async def run(self, address: str, clients: int, seconds: float) -> Tally:
        """The clients, each on a connection of its own, for so long; every call that has begun is waited for."""
        tally, end = Tally(), time.monotonic() + seconds
        await asyncio.gather(*(_Client(self, number, tally, end).run(address) for number in range(clients)))
        return tally


class _Client:
    def __init__(self, traffic: Traffic, number: int, tally: Tally, end: float) -> None:
        self._traffic, self._tally, self._end = traffic, tally, end
        self._random = random.Random(traffic.seed * 10_000 + number)
        self._round = 0

    async def run(self, address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            # The generated types are those of the blocking stubs.
            self._search = cast("Any", SearchServiceStub(channel))
            self._libraries = cast("Any", LibraryServiceStub(channel))
            self._operations = cast("Any", operations_pb2_grpc.OperationsStub(channel))
            while time.monotonic() < self._end:
                [kind] = self._random.choices(list(SHARES), list(SHARES.values()))
                started = time.perf_counter()
                try:
                    if kind == "import":
                        await self._import()
                    else:
                        await self._search.SearchCompounds(self._question(kind), timeout=CALL_SECONDS)
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                        self._tally.refused[kind] += 1
                        await asyncio.sleep(PAUSE_SECONDS)
                    else:
                        self._tally.failed[f"{kind}: {error.code().name}: {error.details()}"] += 1
                else:
                    self._tally.seconds[kind].append(time.perf_counter() - started)

    def _question(self, kind: str) -> search.SearchCompoundsRequest:
        asked = search.SearchCompoundsRequest(parent=f"libraries/{LIBRARY}", page_size=10)
        if kind == "structure":
            asked.structure = self._random.choice(self._traffic.structures)
        else:
            asked.text = self._random.choice(self._traffic.texts)
        if kind == "filter":
            asked.filter = f"molecular_weight < {self._random.randint(200, 800)} AND rings >= {self._random.randint(0, 3)}"
        elif kind == "substructure":
            asked.filter = f'substructure("{self._random.choice(("c1ccccc1", "C(=O)O", "C1CCNCC1", "c1ccncc1"))}")'
        return asked

    async def _import(self) -> None:
        """Some rows, from the first to when they can be found. They say something new each time, so that they are encoded again."""
        self._round += 1
        batcher = Batcher()
        for row in self._random.sample(self._traffic.rows, min(IMPORT_ROWS, len(self._traffic.rows))):
            batcher.add(
                {"smiles": row["smiles"], "id": row["id"], "name": row["name"], "description": f"{row['name']}, told {self._round} times"}
            )
        rows = batcher.rest()

        async def steps() -> AsyncIterator[libraries.ImportCompoundsRequest]:
            start = libraries.ImportCompoundsRequest.Start(parent=f"libraries/{WRITTEN}", request_id=str(uuid.uuid4()), allow_missing=True)
            yield libraries.ImportCompoundsRequest(start=start)
            yield libraries.ImportCompoundsRequest(rows=libraries.ImportCompoundsRequest.Rows(rows=rows))
            yield libraries.ImportCompoundsRequest(finish=libraries.ImportCompoundsRequest.Finish(row_count=len(rows)))

        operation = ""
        async for answer in self._libraries.ImportCompounds(steps(), timeout=CALL_SECONDS):
            operation = answer.operation
        wait = operations_proto_pb2.WaitOperationRequest(name=operation, timeout=Duration(seconds=int(CALL_SECONDS) - 1))
        while not (waited := await self._operations.WaitOperation(wait, timeout=CALL_SECONDS)).done:
            pass
        if waited.HasField("error"):
            self._tally.failed[f"import: {waited.error.message}"] += 1
