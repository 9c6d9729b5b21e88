"""A model version: weights and the index filled with its vectors, named by one content hash."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelVersion:
    """What search and index must agree on."""

    # Content hash of weights, configuration, tokenizer and molecule standard.
    version: str
    dimension: int
    molecule_standard: str
    max_tokens: int

    @property
    def resource_name(self) -> str:
        return f"models/{self.version}"
