"""StructureService: the chemistry door and drawings for those who have no toolkit at hand."""

from typing import Any

from atomas.v1 import structure_service_pb2 as pb
from atomas.v1.structure_service_pb2_grpc import StructureServiceServicer
from encoder.drawing import Look
from encoder.molecules import Molecule
from server.domain.errors import AtomasError, Reason
from server.ports import Ports
from server.rpc import convert
from server.rpc.calls import Calls
from server.usecases.import_compounds import structure_of
from server.usecases.show_structures import draw_structure, standardise_structure

DEFAULT_WIDTH, DEFAULT_HEIGHT = 300, 200
LEAST_PIXELS, MOST_PIXELS = 50, 2_000


class StructureServicer(StructureServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls) -> None:
        self._ports = ports
        self._calls = calls

    async def StandardiseStructure(self, request: pb.StandardiseStructureRequest, context: Any) -> pb.StandardiseStructureResponse:
        molecule, block = await self._calls.run(standardise_structure, request.structure, self._ports)
        return _standardised(molecule, block)

    async def DrawStructure(self, request: pb.DrawStructureRequest, context: Any) -> pb.DrawStructureResponse:
        look = Look(
            width=_pixels("width", request.width, DEFAULT_WIDTH),
            height=_pixels("height", request.height, DEFAULT_HEIGHT),
            dark=request.dark,
            substructure=request.substructure,
        )
        return pb.DrawStructureResponse(svg=await self._calls.run(draw_structure, request.structure, look, self._ports))


def _standardised(molecule: Molecule, block: str) -> pb.StandardiseStructureResponse:
    structure = structure_of(molecule)
    return pb.StandardiseStructureResponse(
        smiles=structure.smiles,
        inchikey=structure.inchikey,
        parent_smiles=structure.parent_smiles,
        parent_inchikey=structure.parent_inchikey,
        descriptors=convert.descriptors_message(structure.descriptors),
        molblock=block,
    )


def _pixels(name: str, asked: int, default: int) -> int:
    if asked and not LEAST_PIXELS <= asked <= MOST_PIXELS:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"{name} is {asked}; drawings are {LEAST_PIXELS} to {MOST_PIXELS:,} pixels wide and high."
        )
    return asked or default
