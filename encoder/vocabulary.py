"""The words and pieces of words that captions are written with: byte-level pair encoding, lossless for every text."""

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

# Pieces never cross these units: words with their hyphens, locants ("2,4-", "(3"), single signs. Names of compounds then share pieces.
_UNIT = r" ?[A-Za-z]+(?:-[A-Za-z]+)*-?| ?\(?[0-9]+[A-Za-z]?(?:,[0-9]+[A-Za-z]?)*-?| ?[^\sA-Za-z0-9]|\s"


class TextVocabulary:
    """Numbers the pieces of texts. What was not learnt is spelt in bytes, so that decoding gives back every text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "TextVocabulary":
        """Take the most frequent pieces, `size` of them at most, the 256 bytes among them."""
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = Steps([Split(Regex(_UNIT), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        trainer = BpeTrainer(vocab_size=size, initial_alphabet=sorted(ByteLevel.alphabet()), min_frequency=2, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, written: str) -> "TextVocabulary":
        """Read what `to_json` wrote; ValueError when it is no vocabulary."""
        try:
            return cls(Tokenizer.from_str(written))
        except Exception as error:  # the library raises bare Exception for whatever is wrong
            raise ValueError(f"this is no vocabulary of texts: {error}") from error

    def to_json(self) -> str:
        """The vocabulary as one JSON document."""
        return str(self._tokenizer.to_str())

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return token ids; ValueError for lone surrogates, which are no text."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts at once."""
        try:
            return [list(encoded.ids) for encoded in self._tokenizer.encode_batch(list(texts))]
        except (TypeError, UnicodeEncodeError) as error:
            raise ValueError("a text holds characters that Unicode cannot write (lone surrogates)") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that are no UTF-8 become the replacement character."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
