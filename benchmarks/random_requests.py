"""Requests that nobody in their right mind sends: random messages of any method, made from its descriptor and from what the service says elsewhere."""

import csv
import json
import math
import random
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from server.domain.errors import AtomasError
from server.rpc import page_tokens

DATA = Path(__file__).resolve().parents[1] / "data"
# Methods that change things may only touch what is named here.
OWN = "fuzz"
_CHANGES = ("Create", "Update", "Delete", "Import", "Activate", "Reindex", "Cancel", "Revoke", "Generate")
_DEPTH, _MANY, _LONG = 4, 40, 30_000
_INTEGERS = (0, 1, -1, 2, 10, 1_000, 10_001, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, math.inf, -math.inf, math.nan)
_TEXTS = (
    "",
    " ",
    "water",
    "a beta-lactam antibiotic",
    "caffeine",
    "CHEBI:27732",
    "\0",
    "\ud7ff",
    "\U0001f9ea" * 9,
    "ﬁ",
    "a\u0301" * 50,
    "%s%n{}$(x)'\";--",
    "../..",
)
_FILTERS = (
    "molecular_weight < 300", "rings >= 1 AND NOT logp > 3", 'substructure("c1ccccc1")', 'smarts("[#6]~[#7]")', "elements.Cl >= 1",
    'similar("CCO", 0.5)', 'same_skeleton("CCO")', "created > 2020-01-01", "has(name)", "metadata.x = 1 OR (rings = 2)", 'superstructure("CCO")',
)  # fmt: skip
_NAMES = (
    "libraries/{}",
    "libraries/-",
    "libraries/{}/compounds/RYYVLZVUVIJVGH-UHFFFAOYSA-N",
    "models/-",
    "operations/" + "0" * 32,
    "apiKeys/abcdefghij",
    "{}",
    "-",
)
_INTEGER_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: 31, FieldDescriptor.CPPTYPE_INT64: 63, FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64,
}  # fmt: skip


def nasty_structures() -> list[str]:
    """The corpus of molecules that have made trouble; those that take as long as they are let are left out."""
    with (DATA / "nasty_molecules.tsv").open(newline="") as file:
        return [
            json.loads(row["text"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["verdict"] != "TIMEOUT"
        ]


class RandomRequests:
    """A stream of requests, the same for the same seed and the same answers of the service."""

    def __init__(self, seed: int, library: str) -> None:
        """`library` exists, and is read alone."""
        self._random = random.Random(seed)
        self._library = library
        self._structures = nasty_structures()
        # Names and tokens that the service has given out.
        self._seen: dict[str, list[str]] = {"name": [], "page_token": []}

    def learn(self, answer: Message) -> None:
        """Remembers names and tokens of an answer, to send them where they do not belong."""
        for field, value in answer.ListFields():
            if field.name in ("name", "operation") and isinstance(value, str):
                self._remember("name", value)
            elif field.name in ("next_page_token", "resume_token"):
                self._remember("page_token", value)

    def messages(self, method: MethodDescriptor) -> list[Message]:
        """What is sent in one call: one message, or some where the method takes a stream."""
        count = self._random.randint(0, 5) if method.client_streaming else 1
        made = [self._message(method.input_type, method.name.startswith(_CHANGES), _DEPTH) for _ in range(count)]
        for message in made:
            self._forge(message)
        return made

    def nonsense(self) -> bytes:
        """Bytes in place of a message."""
        return self._random.randbytes(self._random.randint(1, 60))

    def chance(self, share: float) -> bool:
        """True for such a share of the times."""
        return self._random.random() < share

    def _remember(self, kind: str, value: str) -> None:
        seen = self._seen[kind]
        if len(seen) < 500:
            seen.append(value)
        else:
            seen[self._random.randrange(len(seen))] = value

    def _message(self, kind: Descriptor, changes: bool, depth: int) -> Message:
        message: Message = message_factory.GetMessageClass(kind)()
        for field in kind.fields:
            if self._random.random() < (0.6 if depth == _DEPTH else 0.4) and (depth or field.message_type is None):
                self._fill(message, field, changes, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, changes: bool, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for _ in range(self._random.randint(1, 3)):
                if value.message_type is None:
                    getattr(message, field.name)[self._value(key, changes)] = self._value(value, changes)
                else:
                    getattr(message, field.name)[self._value(key, changes)].CopyFrom(self._message(value.message_type, changes, depth - 1))
        elif field.is_repeated:
            count = self._random.choice((1, 1, 2, 3, _MANY if depth == _DEPTH else 1))
            if field.message_type is None:
                getattr(message, field.name).extend(self._value(field, changes) for _ in range(count))
            else:
                getattr(message, field.name).extend(self._message(field.message_type, changes, depth - 1) for _ in range(count))
        elif field.message_type is None:
            setattr(message, field.name, self._value(field, changes))
        else:
            getattr(message, field.name).CopyFrom(self._message(field.message_type, changes, depth - 1))

    def _value(self, field: FieldDescriptor, changes: bool) -> Any:
        kind = field.cpp_type
        if kind in _INTEGER_TYPES:
            bits = _INTEGER_TYPES[kind]
            signed = bits in (31, 63)
            number = self._random.choice((*_INTEGERS, self._random.randint(-5, 60)))
            return max(-(2**bits) if signed else 0, min(2**bits - 1, number))
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self._random.choice((*_REALS, self._random.uniform(-10, 10)))
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._random.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self._random.choice([*(value.number for value in field.enum_type.values), 99] if field.enum_type else [0])
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.nonsense()
        return self._text(field.name, changes)

    def _text(self, field: str, changes: bool) -> str:
        libraries = (OWN, "absent") if changes else (OWN, self._library, "absent")
        sources: Mapping[str, Sequence[str]] = {
            "filter": _FILTERS,
            "page_token": self._seen["page_token"],
            "resume_token": self._seen["page_token"],
            "paths": ("hits", "smiles", "molblock", "display_name", "compounds.smiles", "*"),
            "path": ("/nowhere", "", ".", "/dev/null"),
            "request_id": ("b7c1d0a4-5c1e-4a38-9a53-6d1f0c6f7a10", "nonsense"),
            "scopes": (f"{OWN}:read", "-:read", "nonsense"),
        }
        if field in ("structure", "structures", "smiles", "inchi", "molblock", "substructure"):
            chosen = self._random.choice(self._structures)
        elif field in ("name", "parent", "libraries", "library_id", "compound", "operation"):
            known = [name for name in self._seen["name"] if not changes or OWN in name]
            chosen = self._random.choice([*known[-20:], *(name.format(self._random.choice(libraries)) for name in _NAMES)])
        elif sources.get(field):
            chosen = self._random.choice(sources[field])
        else:
            chosen = self._random.choice((*_TEXTS, *_FILTERS[:2], self._random.choice(self._structures)))
        how = self._random.random()
        if how < 0.25:
            chosen = self._damaged(chosen)
        elif how < 0.27:
            chosen = (chosen or "x") * (_LONG // max(1, len(chosen)))
        # Half a surrogate pair is text to Python and to nobody else: no message carries it.
        chosen = chosen.encode(errors="ignore").decode()
        # A name that may change things is damaged into nothing that somebody else uses.
        return chosen.replace(self._library, OWN) if changes else chosen

    def _damaged(self, text: str) -> str:
        characters = list(text)
        for _ in range(self._random.randint(1, 3)):
            place = self._random.randint(0, len(characters))
            added = self._random.choice(("", "(", "]", '"', "\0", "\n", "é", "\u202e", self._random.choice(string.printable), text[:10]))
            characters[place : place + self._random.randint(0, 2)] = added
        return "".join(characters)

    def _forge(self, message: Message) -> None:
        """Sometimes a token that is whole, of this very request, and says what no token says."""
        for field in ("page_token", "resume_token"):
            if field in message.DESCRIPTOR.fields_by_name and self._random.random() < 0.3:
                cursor = self._random.choice(
                    ("", "x", "-1", "1 2 3", "1 x", "99999999999999999999 1", "\0", "0 0", "nan", "libraries/-", "é" * 300)
                )
                try:
                    setattr(message, field, page_tokens.encode(cursor, page_tokens.scope_of(message)))
                except AtomasError:
                    continue
