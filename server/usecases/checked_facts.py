"""Sentences about a molecule against the molecule: what it says of formula, charge, rings, elements, functional groups must be so.

Only what a sentence says of the molecule itself is judged: clauses about what it derives from, what was replaced in it, or what it acts on say
nothing that could be counted in its structure.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from encoder.facts import Facts
from server.domain.formulas import hill_order

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
# What follows speaks of another molecule, or of parts that are there no more.
_ELSEWHERE = re.compile(
    r"\b(?:derive[sd]?|obtained|resulting|results|formed|conjugate|tautomer|enantiomer|functionally related|replaced|lacking|without|loss|removal"
    r"|deprotonation|protonation|condensation|condensed|precursor|inhibit\w*|agonist|antagonist|role|metaboli\w*|isolated|biosynthe\w*|used|salt"
    r"|hydrate|analogue|consisting|composed)\b"
)
# A class is asserted before any clause about it.
_CLAUSE = re.compile(
    r"\b(?:that|which|in which|where|having|with|carrying|bearing|comprising|comprised|containing|consisting|of which|whose|for|between)\b|\("
)
_ASSERTION = re.compile(r"^(?:The molecule|It|This compound) is (.*)$", re.IGNORECASE | re.DOTALL)
_TERM = re.compile(r",\s*(?:and\s+)?|\s+and\s+(?=an?\s|one\s|the\s|members?\s)")
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_MULTIPLES = {"di": 2, "tri": 3, "tetra": 4, "penta": 5}


@dataclass(frozen=True)
class Checked:
    """A text without the sentences that the structure contradicts."""

    text: str
    contradicted: tuple[str, ...]


def check_text(text: str, facts: Facts) -> Checked:
    """Drops every sentence that the molecule contradicts."""
    sentences = [sentence for sentence in _SENTENCE.split(text.strip()) if sentence]
    wrong = tuple(sentence for sentence in sentences if contradicts(sentence, facts))
    return Checked(" ".join(sentence for sentence in sentences if sentence not in wrong), wrong)


def contradicts(sentence: str, facts: Facts) -> bool:
    """Whether the sentence says something of the molecule that can be counted and is not so."""
    return any(not holds for holds in _statements(sentence, facts))


def _statements(sentence: str, facts: Facts) -> Iterator[bool]:
    """The truth of everything countable that the sentence says."""
    yield from _formula_and_numbers(sentence, facts)
    asserted = _ASSERTION.match(sentence.rstrip(". "))
    if asserted is None:
        return
    for term in _TERM.split(asserted[1]):
        if _ELSEWHERE.search(term):
            # Whatever follows may belong to that clause.
            return
        head = _CLAUSE.split(term, maxsplit=1)[0].strip()
        for pattern, holds in _CLASSES:
            if found := pattern.search(head):
                yield holds(found, facts)
        if head != term.strip():
            return


def _formula_and_numbers(sentence: str, facts: Facts) -> Iterator[bool]:
    if _ELSEWHERE.search(sentence):
        return
    if found := re.search(r"\b(?:molecular |chemical )?formula (?:is |of )?((?:[A-Z][a-z]?\d*){2,})(?![a-z])", sentence):
        yield hill_order(found[1]) == facts.formula
    if found := re.search(r"\b(?:has|contains) (?:a total of )?(one|two|three|four|five|six|\d+) rings?\b", sentence):
        yield facts.rings == (_NUMBERS.get(found[1]) or int(found[1]))
    if found := re.search(r"\b(?:net |overall |formal )charge of ([+-]?\d+)\b", sentence):
        yield facts.charge == int(found[1])


_Holds = Callable[["re.Match[str]", Facts], bool]


def _at_least(group: str, count: int = 1) -> _Holds:
    return lambda found, facts: facts.count(group) >= count


def _element(symbol: str) -> _Holds:
    return lambda found, facts: facts.has_element(symbol)


def _ion(found: "re.Match[str]", facts: Facts) -> bool:
    sign = 1 if found[2] == "cation" else -1
    if facts.fragments > 1:
        return True
    charge = facts.charge * sign
    return charge == _MULTIPLES[found[1]] if found[1] else charge > 0


def _acid(found: "re.Match[str]", facts: Facts) -> bool:
    return facts.count("carboxylic acid") >= _MULTIPLES.get(found[1] or "", 1)


_CLASSES: tuple[tuple["re.Pattern[str]", _Holds], ...] = tuple(
    (re.compile(rf"\b{pattern}$"), holds)
    for pattern, holds in (
        (r"(di|tri|tetra|penta)?(cation|anion)s?", _ion),
        (r"zwitterions?", lambda found, facts: facts.is_zwitterion),
        (r"acyclic compounds?", lambda found, facts: facts.rings == 0),
        (r"(?:bicyclic|tricyclic|tetracyclic|polycyclic|macrocycle|cyclic) ?(?:compounds?)?", lambda found, facts: facts.rings > 0),
        (r"aromatic compounds?", lambda found, facts: facts.is_aromatic),
        (r"(?:mono|(di|tri|tetra))?carboxylic acids?", _acid),
        (r"(?:carboxylic|methyl|ethyl|tert-butyl|acetate|enoate|benzoate) esters?", _at_least("ester")),
        (r"primary alcohols?", _at_least("primary alcohol")),
        (r"secondary alcohols?", _at_least("secondary alcohol")),
        (r"tertiary alcohols?", _at_least("tertiary alcohol")),
        (r"alcohols?", _at_least("alcohol")),
        (r"(?:member of )?phenols", _at_least("phenol")),
        (r"aromatic ethers?", _at_least("aromatic ether")),
        (r"ethers?", _at_least("ether")),
        (r"ketones?", _at_least("ketone")),
        (r"aldehydes?", _at_least("aldehyde")),
        (r"nitriles?", _at_least("nitrile")),
        (r"sulfonamides?", _at_least("sulfonamide")),
        (r"sulfones?", _at_least("sulfone")),
        (r"sulfoxides?", _at_least("sulfoxide")),
        (r"thiols?", _at_least("thiol")),
        (r"(?:carboxamides?|carboxylic acid amides?)", _at_least("amide")),
        (r"primary amino compounds?", _at_least("primary amino group")),
        (r"(?:secondary|tertiary) amino compounds?", _at_least("amine")),
        (r"C-nitro compounds?", _at_least("nitro group")),
        (r"epoxides?", _at_least("epoxide")),
        (r"lactones?", _at_least("lactone")),
        (r"lactams?", _at_least("lactam")),
        (r"member of ureas", _at_least("urea")),
        (r"member of (?:\w*benzenes|benzoic acids)", _at_least("benzene ring")),
        (r"member of pyridines", _at_least("pyridine ring")),
        (r"member of furans", _at_least("furan skeleton")),
        (r"member of thiophenes", _at_least("thiophene ring")),
        (r"member of indoles", _at_least("indole ring system")),
        (r"heterocyclic compounds?", _at_least("heterocyclic ring")),
        (r"azides?", _at_least("azide")),
        (r"phosphates?", _at_least("phosphate")),
        (r"phosphonic acids?", _at_least("phosphonic acid")),
        (r"sulfonic acids?", _at_least("sulfonic acid")),
        (r"organofluorine compounds?", _element("F")),
        (r"organochlorine compounds?", _element("Cl")),
        (r"organobromine compounds?", _element("Br")),
        (r"organoiodine compounds?", _element("I")),
        (r"organosulfur (?:heterocyclic )?compounds?", _element("S")),
        (r"organophosphorus compounds?", _element("P")),
        (r"organosilicon compounds?", _element("Si")),
        (r"organonitrogen (?:heterocyclic )?compounds?", _element("N")),
        (r"member of (?:mono|di|tri)?chloro\w*", _element("Cl")),
        (r"member of (?:mono|di|tri)?fluoro\w*", _element("F")),
        (r"member of (?:mono|di|tri)?bromo\w*", _element("Br")),
    )
)
