"""What the use cases need from the world, one module a subject; callers import from here."""

from server.ports.access import ApiKeys, SecretHashes, Tokens, Trust
from server.ports.bundle import Ports
from server.ports.chemistry import Chemistry
from server.ports.compounds import Compounds, Names
from server.ports.database import Database, Transaction
from server.ports.encoder import Encoder
from server.ports.generations import Generations
from server.ports.generator import Generator, Shown, Written
from server.ports.jobs import JobQueue, JobStarts
from server.ports.libraries import Libraries
from server.ports.models import Models, ModelVersions
from server.ports.operations import Operations
from server.ports.storage import Storage
from server.ports.structure_index import StructureEntry, StructureIndex
from server.ports.vector_index import Point, Question, ScoredPoint, VectorIndex
from server.ports.vectors import Parts, Vector, Words

__all__ = [
    "ApiKeys",
    "Chemistry",
    "Compounds",
    "Database",
    "Encoder",
    "Generations",
    "Generator",
    "JobQueue",
    "JobStarts",
    "Libraries",
    "ModelVersions",
    "Models",
    "Names",
    "Operations",
    "Parts",
    "Point",
    "Ports",
    "Question",
    "ScoredPoint",
    "SecretHashes",
    "Shown",
    "Storage",
    "StructureEntry",
    "StructureIndex",
    "Tokens",
    "Transaction",
    "Trust",
    "Vector",
    "VectorIndex",
    "Words",
    "Written",
]
