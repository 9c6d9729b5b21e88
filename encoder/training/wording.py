"""Brings descriptions gathered from several places to ChEBI's wording: one subject, one source, one verb for one relation."""

import re
from collections.abc import Collection
from itertools import pairwise

from encoder.prose import SUBJECT, is_definition, normalise

_LONGEST_SUBJECT = 150
"""Characters; what is longer before the first "is" is a sentence about something else."""

_NAMED = re.compile(rf"^(?!{SUBJECT}\b)(?P<subject>.{{1,{_LONGEST_SUBJECT}}}?)(?= (?:is|was) (?:an?|the|one) )")
_SENTENCE_ENDS = re.compile(
    r"(?<=[^\s.][a-z0-9)\]'+-])\.(?:\s+(?=[A-Z(]|it )|(?=[A-Z0-9(][^.]{0,150}? is (?:an? natural product|under investigation)\b))"
)
_CITED = re.compile(r"\.? \([ALT]\d+(?:, [ALT]\d+)*\)")
_NEW_SOURCE = re.compile(rf"^(?:{SUBJECT}|it)\b|^\S.{{0,{_LONGEST_SUBJECT}}}? is (?:an? natural product|under investigation)\b")
_RELATED = re.compile(r"\bis functionally related to\b")
_NAME_CUT = re.compile(r"(?:(?<=[\s(-])it(?=[(\-])|(?<=-)it\b)")
"""The word "it" inside a name: the molecule's own name was taken out of a longer one."""
_MANY = re.compile(r"\ban? (?P<classes>[^\s,]*[^\s,suiz]s)(?=,| and |\.)")
"""A class named by its plural after an article."""


def chebi_wording(text: str, names: Collection[str]) -> str:
    """The part of a description that reads like ChEBI's own, worded as ChEBI words it; the whole text where no part does.

    Texts of PubChem join those of several sources, each of which begins with the molecule as its subject: the first that defines it is kept.
    `names` are the molecule's own names: they are put back where "it" stands within another name, or the sentence is left out.
    """
    text = normalise(_CITED.sub("", text))
    name = min(names, key=len, default="")
    known = {each.lower() for each in names}
    sentences: list[str] = []
    for sentence in _SENTENCE_ENDS.split(text.removesuffix(".")):
        begun = _NAMED.match(sentence)
        if begun and (not sentences or begun["subject"].lower() in known):
            sentence = SUBJECT + sentence[begun.end() :]
        sentences.append(sentence)
    starts = [place for place, sentence in enumerate(sentences) if _NEW_SOURCE.match(sentence)]
    for start, end in pairwise([*starts, len(sentences)]):
        part = [_whole(sentence, name) for sentence in sentences[start:end]]
        chosen = normalise(". ".join(filter(None, part)) + ".")
        if is_definition(chosen):
            return _RELATED.sub("derives from", chosen)
    return text


def member_of_plurals(text: str) -> str:
    """A list of ChEBI classes with "a member of phenols" where it has "a phenols"."""
    return _MANY.sub(r"a member of \g<classes>", text)


def _whole(sentence: str, name: str) -> str:
    """The sentence with names that were cut mended, or nothing when the name is not known."""
    if not _NAME_CUT.search(sentence):
        return sentence
    return _NAME_CUT.sub(name.replace("\\", r"\\"), sentence) if name else ""
