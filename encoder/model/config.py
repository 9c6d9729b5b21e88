"""The architecture as data: every size of the encoder, from tiny to base."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Modality = Literal["text", "molecule"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the unified encoder."""

    text_features: int
    """Rows of the text embedding table."""
    molecule_features: int
    """Rows of the molecule embedding table."""
    width: int = 256
    """Width of a token."""
    head_width: int = 512
    """Hidden width of the projection head of each modality."""
    dimension: int = 256
    """Dimension of the vectors that are searched."""
    layers: int = 0
    """Transformer layers, shared by both modalities; with none the encoder is a bag of features."""
    attention_heads: int = 4
    """Attention heads of a layer."""
    attention_width: int = 128
    """Width of all attention heads together."""
    feed_forward_width: int = 256
    """Hidden width of a layer's feed-forward part."""
    hierarchy_width: int = 0
    """Width of the tokens that the hierarchy aligns; 0 for an encoder without hierarchy."""
    dropout: float = 0.2
    """Dropout in the projection heads while training."""
    feature_dropout: float = 0.1
    """Share of features hidden while training."""
    max_tokens: int = 4096
    """Longest input, in tokens; longer ones are refused, never cut."""

    def __post_init__(self) -> None:
        if self.attention_width % (2 * self.attention_heads):
            raise ValueError("attention_width must be a multiple of twice attention_heads: rotary positions turn pairs of numbers")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "EncoderConfig":
        """Read what `to_json` wrote; ValueError names unknown or missing fields."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields in the encoder configuration: {', '.join(unknown)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the encoder configuration is incomplete: {error}") from error
