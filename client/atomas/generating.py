"""Generation: new molecules from words and words for molecules, as values and calls, without transport."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.longrunning import operations_proto_pb2 as longrunning

from atomas import codec
from atomas.calls import Call, compound_name, library_name, sendable
from atomas.errors import AtomasError, InternalError, InvalidArgumentError, OperationFailedError, UnavailableError
from atomas.types import Compound, Descriptors, Library
from atomas.v1 import generation_service_pb2 as pb

WATCH_GENERATION = "/atomas.v1.GenerationService/WatchGeneration"
_GENERATION = "/atomas.v1.GenerationService/"
_GET_OPERATION = "/google.longrunning.Operations/GetOperation"
# A service that restarts goes on with its generations; it is given this long to come back.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 120.0, 0.5


@dataclass(frozen=True, slots=True)
class KnownCompound:
    """A compound of the library beside something that was generated."""

    # `libraries/{library}/compounds/{inchikey}`.
    compound: str
    name: str
    smiles: str
    # Tanimoto similarity of Morgan fingerprints; 0 where it is text that made the compound a neighbour.
    tanimoto: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A molecule that the decoder proposed: valid, standardised, different from every other candidate."""

    smiles: str
    inchikey: str
    # Natural logarithm of the decoder's probability.
    log_probability: float
    # Cosine similarity of the molecule's vector with the text's.
    alignment: float
    # Whether the library holds this very molecule.
    known: bool
    nearest: tuple[KnownCompound, ...] = ()
    descriptors: Descriptors | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """Words for a molecule; no sentence that its structure contradicts is among them."""

    text: str
    # Natural logarithm of the decoder's probability.
    log_probability: float
    # Cosine similarity of the text's vector with the molecule's.
    alignment: float
    dropped_sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationCounts:
    """What became of the decoder's attempts."""

    attempted: int = 0
    kept: int = 0
    dropped_by_reason: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GeneratedMolecules:
    """Candidates, best first, and all that is needed to get them again."""

    operation: str
    candidates: tuple[Candidate, ...]
    counts: GenerationCounts
    # `BUDGET` or `DEADLINE` where fewer came than were wanted, else empty.
    shortfall_reason: str
    seed: int
    model: str


@dataclass(frozen=True, slots=True)
class GeneratedDescriptions:
    """Descriptions, best first, and the compounds whose texts the decoder was shown."""

    operation: str
    smiles: str
    descriptions: tuple[Description, ...]
    neighbours: tuple[KnownCompound, ...]
    counts: GenerationCounts
    seed: int
    model: str


Found: TypeAlias = Candidate | Description


def generate_molecules(
    text: str, library: str | Library | None, count: int, filter: str, seed: int, max_attempts: int, keep_order: bool, ignore_library: bool
) -> Call[str]:
    """Starts a generation; the answer is the operation's name."""
    request = pb.GenerateMoleculesRequest(
        parent=library_name("-" if library is None else library),
        text=sendable(text),
        count=count,
        filter=sendable(filter),
        seed=seed,
        max_attempts=max_attempts,
        keep_order=keep_order,
        ignore_library=ignore_library,
    )
    return Call(_GENERATION + "GenerateMolecules", request, longrunning.Operation.FromString, lambda answer: str(answer.name))


def describe_structure(
    structure: str | None, compound: str | Compound | None, library: str | Library | None, count: int, ignore_library: bool
) -> Call[str]:
    """Starts a description of exactly one of a structure and a stored compound; the answer is the operation's name."""
    if (structure is None) == (compound is None):
        raise InvalidArgumentError("Describe exactly one of a structure and a stored compound.", reason="INVALID_ARGUMENT")
    request = pb.DescribeStructureRequest(
        parent=library_name("-" if library is None else library), count=count, ignore_library=ignore_library
    )
    if structure is not None:
        request.structure = sendable(structure)
    elif compound is not None:
        request.compound = compound_name(compound, library)
    return Call(_GENERATION + "DescribeStructure", request, longrunning.Operation.FromString, lambda answer: str(answer.name))


def molecules_of(operation: str) -> Call[GeneratedMolecules]:
    """The answer of a generation that has ended. Decoding raises OperationFailedError."""
    return Call(_GET_OPERATION, longrunning.GetOperationRequest(name=operation), longrunning.Operation.FromString, _molecules)


def descriptions_of(operation: str) -> Call[GeneratedDescriptions]:
    """As `molecules_of`, of a description."""
    return Call(_GET_OPERATION, longrunning.GetOperationRequest(name=operation), longrunning.Operation.FromString, _descriptions)


def decode_found(message: pb.WatchGenerationResponse) -> Found | None:
    """What a step of the stream brought; None for its last one, which tells of the end."""
    match message.WhichOneof("found"):
        case "candidate":
            return _candidate(message.candidate)
        case "description":
            return _description(message.description)
        case _:
            return None


def _molecules(message: longrunning.Operation) -> GeneratedMolecules:
    answer = pb.GenerateMoleculesResponse()
    _unpack(message, answer)
    return GeneratedMolecules(
        operation=message.name,
        candidates=tuple(map(_candidate, answer.candidates)),
        counts=_counts(answer.counts),
        shortfall_reason=answer.shortfall_reason,
        seed=answer.seed,
        model=answer.model,
    )


def _descriptions(message: longrunning.Operation) -> GeneratedDescriptions:
    answer = pb.DescribeStructureResponse()
    _unpack(message, answer)
    return GeneratedDescriptions(
        operation=message.name,
        smiles=answer.smiles,
        descriptions=tuple(map(_description, answer.descriptions)),
        neighbours=_known(answer.neighbours),
        counts=_counts(answer.counts),
        seed=answer.seed,
        model=answer.model,
    )


def _unpack(message: longrunning.Operation, answer: pb.GenerateMoleculesResponse | pb.DescribeStructureResponse) -> None:
    if message.HasField("error"):
        operation = codec.decode_operation(message)
        raise OperationFailedError(
            operation.message or f"{message.name} failed without a word.", reason=operation.reason or "CANCELLED", operation=operation
        )
    if not message.response.Unpack(answer):
        raise InternalError(f"{message.name} has ended without an answer of the kind that was asked for.", reason="INTERNAL")


def _candidate(message: pb.Candidate) -> Candidate:
    return Candidate(
        smiles=message.smiles,
        inchikey=message.inchikey,
        log_probability=message.log_probability,
        alignment=message.alignment,
        known=message.known,
        nearest=_known(message.nearest),
        descriptors=codec.decode_descriptors(message.descriptors),
    )


def _description(message: pb.Description) -> Description:
    return Description(message.text, message.log_probability, message.alignment, tuple(message.dropped_sentences))


def _known(messages: Sequence[pb.KnownCompound]) -> tuple[KnownCompound, ...]:
    return tuple(KnownCompound(each.compound, each.display_name, each.smiles, each.tanimoto) for each in messages)


def _counts(message: pb.GenerationCounts) -> GenerationCounts:
    return GenerationCounts(message.attempted, message.kept, dict(sorted(message.dropped_by_reason.items())))


class Watch:
    """Follows one generation through streams that may break: each stream begins anew, and what was seen is passed over."""

    def __init__(self, operation: str, timeout_seconds: float | None) -> None:
        self.operation = operation
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._seen = self._passed = 0
        self._missing_since: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the caller's patience ends; None when it does not."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def begin(self) -> pb.WatchGenerationRequest:
        """What a stream asks."""
        self._passed = 0
        return pb.WatchGenerationRequest(operation=self.operation)

    def received(self, response: pb.WatchGenerationResponse) -> Found | None:
        """What is new in a step of a stream."""
        self._missing_since = None
        found = decode_found(response)
        if found is None:
            return None
        self._passed += 1
        if self._passed <= self._seen:
            return None
        self._seen = self._passed
        return found

    def broke(self, error: AtomasError) -> float:
        """Seconds until the next stream; raises the error where another one is of no use."""
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if not isinstance(error, UnavailableError) or now - self._missing_since > _PATIENCE_SECONDS or self.seconds_left == 0.0:
            raise error
        return _PAUSE_SECONDS


def watch_stream(channel: Any) -> Any:
    """The method that streams what a generation finds, of a blocking or an asyncio channel."""
    return channel.unary_stream(
        WATCH_GENERATION,
        request_serializer=pb.WatchGenerationRequest.SerializeToString,
        response_deserializer=pb.WatchGenerationResponse.FromString,
    )
