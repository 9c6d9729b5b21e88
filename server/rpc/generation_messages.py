"""Generations to messages of the contract."""

from collections.abc import Sequence

from google.longrunning import operations_pb2

from atomas.v1 import generation_service_pb2 as pb
from server.domain.generation import Candidate, Description, Finding, Generation, GenerationCounts, GenerationState, KnownCompound, Task
from server.rpc import names
from server.rpc.convert import descriptors_message, timestamp
from server.rpc.errors import cancelled, failed


def generation_message(generation: Generation, findings: Sequence[Finding]) -> operations_pb2.Operation:
    """As google.longrunning.Operation, with the findings in their order: in the response once it has succeeded, else in the metadata."""
    message = operations_pb2.Operation(name=generation.resource_name, done=generation.state.final)
    metadata = metadata_message(generation)
    if generation.state is not GenerationState.SUCCEEDED:
        metadata.candidates.extend(candidate_message(each) for each in findings if isinstance(each, Candidate))
        metadata.descriptions.extend(description_message(each) for each in findings if isinstance(each, Description))
    message.metadata.Pack(metadata)
    if generation.state is GenerationState.SUCCEEDED:
        message.response.Pack(_response(generation, findings))
    elif generation.state is GenerationState.CANCELLED:
        message.error.CopyFrom(cancelled("The generation was cancelled; what it had found is still there."))
    elif generation.state is GenerationState.FAILED:
        message.error.CopyFrom(failed(generation.error, "The generation failed."))
    return message


def metadata_message(generation: Generation) -> pb.GenerationMetadata:
    return pb.GenerationMetadata(
        state=pb.GenerationMetadata.State.Value(generation.state.value),
        counts=_counts(generation.counts),
        create_time=timestamp(generation.create_time),
        end_time=timestamp(generation.end_time),
    )


def candidate_message(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        smiles=candidate.smiles,
        inchikey=candidate.inchikey,
        log_probability=candidate.log_probability,
        alignment=candidate.alignment,
        known=candidate.known,
        nearest=map(_known, candidate.nearest),
        descriptors=descriptors_message(candidate.descriptors),
    )


def description_message(description: Description) -> pb.Description:
    return pb.Description(
        text=description.text,
        log_probability=description.log_probability,
        alignment=description.alignment,
        dropped_sentences=description.dropped_sentences,
    )


def _response(generation: Generation, findings: Sequence[Finding]) -> pb.GenerateMoleculesResponse | pb.DescribeStructureResponse:
    request, model = generation.request, f"models/{generation.request.model}"
    if request.task is Task.MOLECULES:
        return pb.GenerateMoleculesResponse(
            candidates=[candidate_message(each) for each in findings if isinstance(each, Candidate)],
            counts=_counts(generation.counts),
            shortfall_reason=generation.shortfall,
            seed=request.seed,
            model=model,
        )
    return pb.DescribeStructureResponse(
        smiles=request.source,
        descriptions=[description_message(each) for each in findings if isinstance(each, Description)],
        neighbours=map(_known, generation.neighbours),
        counts=_counts(generation.counts),
        seed=request.seed,
        model=model,
    )


def _counts(counts: GenerationCounts) -> pb.GenerationCounts:
    return pb.GenerationCounts(attempted=counts.attempted, kept=counts.kept, dropped_by_reason=counts.dropped_by_reason)


def _known(known: KnownCompound) -> pb.KnownCompound:
    return pb.KnownCompound(
        compound=names.compound_name(known.library, known.inchikey),
        display_name=known.display_name,
        smiles=known.smiles,
        tanimoto=known.tanimoto,
    )
