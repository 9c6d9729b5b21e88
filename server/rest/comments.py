"""The contract's own words: comments of the .proto files, by the full name of what they describe."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CONTRACT = Path(__file__).resolve().parents[2] / "proto" / "atomas" / "v1"
_PACKAGE = "atomas.v1"
_COMMENT = re.compile(r"\s*//\s?(.*)")
_BLOCK = re.compile(r"\s*(?:service|message|enum|rpc|oneof)\s+(\w+)")
_ITEM = re.compile(r"\s*(?:(?:repeated|optional)\s+)?(?:map<[^>]*>|[\w.]+)?\s*\b(\w+)\s*=\s*-?\d+\s*[;\[]")


@cache
def comments() -> Mapping[str, str]:
    """Of services, methods, messages, fields, enumerations and their values; empty where the contract's files are not at hand."""
    found: dict[str, str] = {}
    for path in sorted(_CONTRACT.glob("*.proto")):
        _read(path.read_text(encoding="utf-8"), found)
    return found


def _read(text: str, found: dict[str, str]) -> None:
    # Blocks that are open; those without a name of their own, such as options and oneofs, are empty.
    scopes: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.fullmatch(line):
            said.append(comment[1].strip())
            continue
        block, item = _BLOCK.match(line), _ITEM.match(line)
        named = block or item
        if named is not None and said:
            found[".".join([_PACKAGE, *filter(None, scopes), named[1]])] = " ".join(said)
        if line.strip():
            said = []
        opened, closed = line.count("{"), line.count("}")
        if opened > closed:
            scopes += [block[1] if block is not None and not line.lstrip().startswith("oneof") else "", *[""] * (opened - closed - 1)]
        elif closed > opened:
            del scopes[len(scopes) - (closed - opened) :]
