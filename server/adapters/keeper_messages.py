"""What the structure keeper and its callers tell each other: a head as JSON, arrays and bytes after it as they are. No pickle."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Questions that the keeper works on at the same time; matching leaves Python's lock, so that several really run at once.
THREADS = 4

_LENGTH = struct.Struct("<Q")
# Ids of every structure of a very large library; a longer message is a mistake, not a question.
MAX_BYTES = 1 << 33


@dataclass(frozen=True)
class Message:
    """`head` holds JSON values; `parts` are bytes whose meaning the call knows."""

    head: Mapping[str, Any]
    parts: Sequence[bytes] = field(default_factory=tuple)

    def encoded(self) -> bytes:
        """The message as bytes that `decoded` reads."""
        head = json.dumps({**self.head, "parts": [len(part) for part in self.parts]}).encode()
        return b"".join([_LENGTH.pack(len(head)), head, *self.parts])


def decoded(content: bytes) -> Message:
    """Raises ValueError for bytes that are no message."""
    try:
        (length,) = _LENGTH.unpack_from(content)
        head = json.loads(content[_LENGTH.size : _LENGTH.size + length])
        place, parts = _LENGTH.size + length, []
        for size in head.pop("parts"):
            parts.append(content[place : place + size])
            place += size
    except (struct.error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no message of the structure keeper ({type(error).__name__})") from None
    return Message(head, parts)


def write_message(pipe: BinaryIO, message: Message) -> None:
    """Sends one message and flushes."""
    content = message.encoded()
    pipe.write(_LENGTH.pack(len(content)) + content)
    pipe.flush()


def read_message(pipe: BinaryIO) -> Message | None:
    """The next message, None at the end of the pipe."""
    frame = pipe.read(_LENGTH.size)
    if len(frame) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(frame)
    if length > MAX_BYTES:
        raise ValueError("a message of the structure keeper is too long")
    content = pipe.read(length)
    return decoded(content) if len(content) == length else None


def rows_of(part: bytes, width: int) -> NDArray[np.uint8]:
    """(N, width) bytes."""
    return np.frombuffer(part, np.uint8).reshape(-1, width)


def texts_part(texts: Sequence[str]) -> bytes:
    """Texts as one part."""
    return json.dumps(list(texts)).encode()


def texts_of(part: bytes) -> list[str]:
    """What `texts_part` wrote."""
    return [str(text) for text in json.loads(part)]
