"""Turns texts into n-gram features per word and molecules into circular environments per atom: what token embeddings are sums of."""

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

from encoder.maccs import maccs_keys
from encoder.tokenizer import is_atom, split_smiles, split_text

# Part of every model's hash. Raise it whenever a text or a molecule gets other features than before; the golden test tells when.
FEATURES_VERSION = "1"

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TokenFeatures:
    """Features of the tokens of several items, as ragged arrays (F features, T tokens, B items in all).

    A token's embedding is the sum of its features' embeddings by `weights`; the bag of an item is the sum of its tokens' embeddings by `mass`.
    """

    ids: Ints  # (F,) rows of the embedding table
    weights: Floats  # (F,) sums to 1 within a token that has mass
    feature_counts: Ints  # (T,) features of each token
    mass: Floats  # (T,) a token's say in the pooled vector, 0 for tokens that are context only
    token_counts: Ints  # (B,) tokens of each item


def _token_features(
    ids: list[int], weights: Floats, feature_counts: list[int], context: list[bool], token_counts: list[int]
) -> TokenFeatures:
    counts = np.asarray(feature_counts, dtype=np.int64)
    token_of_feature = np.repeat(np.arange(len(counts)), counts)
    mass = np.bincount(token_of_feature, weights=weights, minlength=len(counts)).astype(np.float32)
    shares = (weights / np.maximum(mass, 1e-12)[token_of_feature]).astype(np.float32)
    mass[np.asarray(context, dtype=bool)] = 0.0
    return TokenFeatures(np.asarray(ids, dtype=np.int64), shares, counts, mass, np.asarray(token_counts, dtype=np.int64))


def _occurrences(items: Ints, ids: Ints, table_rows: int) -> tuple[Ints, Ints]:
    """For each feature occurrence, how often its feature occurs in its item, and the group index of that (item, feature)."""
    _, group, counts = np.unique(items * table_rows + ids, return_inverse=True, return_counts=True)
    return counts[group], group


class TextFeatures:
    """Features of words: the word's 1- to 3-grams that end at it and its character 3- to 5-grams, weighted by sublinear TF-IDF.

    N-grams not learnt contribute nothing, but a word that was not learnt falls into one of `buckets` hashed rows, so that no word is empty.
    Row order: learnt n-grams, then buckets. Word and character n-grams are each normalised to length 1 within an item.
    """

    def __init__(self, ngrams: Sequence[str], idf: Floats, buckets: int) -> None:
        if len(idf) != len(ngrams):
            raise ValueError(f"{len(ngrams)} n-grams need as many weights, not {len(idf)}")
        self.ngrams = tuple(ngrams)
        self.learnt_idf = idf
        self.idf = np.concatenate([idf, np.full(buckets, idf.max(initial=1.0), dtype=np.float32)]).astype(np.float32)
        self.buckets = buckets
        self._rows = {ngram: row for row, ngram in enumerate(self.ngrams)}
        self._is_character = np.array([_is_character_ngram(ngram) for ngram in self.ngrams] + [False] * buckets)
        self._words: dict[str, tuple[int, list[int]]] = {}

    @property
    def rows(self) -> int:
        """Rows that the embedding table needs."""
        return len(self.ngrams) + self.buckets

    @classmethod
    def learn(cls, texts: Iterable[str], max_word_ngrams: int, max_character_ngrams: int, min_texts: int, buckets: int) -> "TextFeatures":
        """Take the n-grams that occur in most texts, at least in `min_texts` of them."""
        seen: Counter[str] = Counter()
        texts_count = 0
        for text in texts:
            texts_count += 1
            seen.update(set(itertools.chain.from_iterable(_ngrams_of_words(split_text(text)))))
        kept: list[tuple[str, int]] = []
        for character, limit in ((False, max_word_ngrams), (True, max_character_ngrams)):
            frequent = [(g, n) for g, n in seen.items() if n >= min_texts and _is_character_ngram(g) == character]
            kept += sorted(frequent, key=lambda item: (-item[1], item[0]))[:limit]
        idf = [math.log((1 + texts_count) / (1 + count)) + 1 for _, count in kept]
        return cls([ngram for ngram, _ in kept], np.array(idf, dtype=np.float32), buckets)

    def __call__(self, texts: Sequence[str]) -> TokenFeatures:
        """Featurise texts; a text without any word has no tokens (callers refuse it before)."""
        ids: list[int] = []
        feature_counts: list[int] = []
        token_counts: list[int] = []
        features_per_text: list[int] = []
        rows = self._rows
        for text in texts:
            words = split_text(text)
            start = len(ids)
            before = before_last = ""
            for word in words:
                count = len(ids)
                row, characters = self._words.get(word) or self._remember(word)
                ids.append(row)
                if before:
                    pair = rows.get(f"{before} {word}")
                    if pair is not None:
                        ids.append(pair)
                        if before_last and (triple := rows.get(f"{before_last} {before} {word}")) is not None:
                            ids.append(triple)
                ids += characters
                feature_counts.append(len(ids) - count)
                before_last, before = before, word
            token_counts.append(len(words))
            features_per_text.append(len(ids) - start)
        weights = self._weights(np.asarray(ids, dtype=np.int64), np.repeat(np.arange(len(texts)), features_per_text))
        return _token_features(ids, weights, feature_counts, [False] * len(feature_counts), token_counts)

    def _remember(self, word: str) -> tuple[int, list[int]]:
        if len(self._words) > 200_000:
            self._words.clear()
        row = self._rows.get(word)
        if row is None:
            row = len(self.ngrams) + zlib.crc32(word.encode("utf-8", "surrogatepass")) % self.buckets
        found = row, [r for gram in _character_ngrams(word) if (r := self._rows.get(gram)) is not None]
        self._words[word] = found
        return found

    def _weights(self, ids: Ints, items: Ints) -> Floats:
        counts, _ = _occurrences(items, ids, self.rows)
        total = (1 + np.log(counts)) * self.idf[ids]
        family = items * 2 + self._is_character[ids]
        # Every occurrence carries its share of the feature's weight, so squares are summed once per feature, not once per occurrence.
        norm = np.sqrt(np.bincount(family, weights=total**2 / counts))
        return (total / counts / norm[family]).astype(np.float32) if len(ids) else np.zeros(0, np.float32)


def _character_ngrams(word: str) -> Iterable[str]:
    if not word[0].isalpha():
        return
    framed = f"<{word}>"
    for size in (3, 4, 5):
        for start in range(len(framed) - size + 1):
            yield f"~{framed[start : start + size]}"


def _is_character_ngram(ngram: str) -> bool:
    return len(ngram) > 3 and ngram[0] == "~" and " " not in ngram


def _ngrams_of_words(words: list[str]) -> Iterable[Iterable[str]]:
    yield words
    yield map(" ".join, itertools.pairwise(words))
    yield map(" ".join, zip(words, words[1:], words[2:], strict=False))
    for word in set(words):
        yield _character_ngrams(word)


_CHIRAL = rdFingerprintGenerator.GetMorganGenerator(radius=2, includeChirality=True)
_FLAT = rdFingerprintGenerator.GetMorganGenerator(radius=3)
_STEREO_LABELS = {label: label.name for label in Chem.BondStereo.values.values() if label > Chem.BondStereo.STEREOANY}
_ELEMENTS = 119  # the dummy atom `*` is element 0
_FORMULA = re.compile(r"([A-Z][a-z]?)(\d*)")
_STEREO_MARK = re.compile(r"[@/\\]")
_MACCS_NAMES = [f"maccs:{bit}" for bit in range(167)]


class MoleculeFeatures:
    """Features of SMILES tokens: an atom's circular environments (radius 0 to 2 with chirality, 0 to 3 without), and whole-molecule keys.

    The first token stands for the whole molecule (MACCS keys, counts of elements, rings, stereo descriptors, charge). Bonds, branches and ring
    closures have an embedding but no mass: they are spelling, and the pooled vector does not depend on spelling. Environments not learnt
    contribute nothing; an atom always has its element's row. Row order: learnt environments, then keys.
    """

    def __init__(self, environments: Sequence[int], keys: Sequence[str]) -> None:
        self.environments = tuple(environments)
        self.keys = tuple(keys)
        self._environment_rows = {identifier: row for row, identifier in enumerate(self.environments)}
        self._key_rows = {key: row for row, key in enumerate(self.keys, start=len(self.environments))}
        self._element_rows = [self._key_rows[f"element:{number}"] for number in range(_ELEMENTS)]

    @property
    def rows(self) -> int:
        """Rows that the embedding table needs."""
        return len(self.environments) + len(self.keys)

    @classmethod
    def learn(cls, smiles: Iterable[str], min_molecules: int) -> "MoleculeFeatures":
        """Take the environments and keys that occur in at least `min_molecules` molecules."""
        environments: Counter[int] = Counter()
        keys: Counter[str] = Counter()
        for text in smiles:
            molecule = _parse(text)
            environments.update(set(itertools.chain.from_iterable(_atom_environments(molecule, text))))
            keys.update(_whole_keys(molecule, text, _atoms(molecule)))
            keys.update({token for token in split_smiles(text) if not is_atom(token)})
        elements = [f"element:{number}" for number in range(_ELEMENTS)]
        kept = sorted(key for key, count in keys.items() if count >= min_molecules)
        return cls(sorted(e for e, count in environments.items() if count >= min_molecules), elements + kept)

    def __call__(self, smiles: Sequence[str]) -> TokenFeatures:
        """Featurise molecules; ValueError names a SMILES that RDKit cannot read."""
        ids: list[int] = []
        feature_counts: list[int] = []
        context: list[bool] = []
        token_counts: list[int] = []
        features_per_molecule: list[int] = []
        environment_rows, key_rows, element_rows = self._environment_rows, self._key_rows, self._element_rows
        for text in smiles:
            start = len(ids)
            molecule = _parse(text)
            atoms_of_molecule = _atoms(molecule)
            whole = [row for key in _whole_keys(molecule, text, atoms_of_molecule) if (row := key_rows.get(key)) is not None]
            ids += whole
            feature_counts.append(len(whole))
            context.append(False)
            environments = _atom_environments(molecule, text)
            elements = [atom.GetAtomicNum() for atom in atoms_of_molecule]
            tokens = split_smiles(text)
            for token, atom in zip(tokens, atoms_of_tokens(text, molecule), strict=True):
                count = len(ids)
                if atom is None:
                    if (row := key_rows.get(token)) is not None:
                        ids.append(row)
                else:
                    ids.append(element_rows[elements[atom]])
                    ids += [row for e in environments[atom] if (row := environment_rows.get(e)) is not None]
                feature_counts.append(len(ids) - count)
                context.append(atom is None)
            token_counts.append(1 + len(tokens))
            features_per_molecule.append(len(ids) - start)
        array = np.asarray(ids, dtype=np.int64)
        counts, _ = _occurrences(np.repeat(np.arange(len(smiles)), features_per_molecule), array, self.rows)
        return _token_features(ids, (np.log1p(counts) / counts).astype(np.float32), feature_counts, context, token_counts)

    def atoms_described(self, smiles: str) -> list[Ints]:
        """The atoms that each feature of one molecule is about, in the order of the features that calling this gives.

        An environment is about all atoms within its radius; keys of the whole molecule and spelling are about none.
        """
        molecule = _parse(smiles)
        radii: dict[tuple[int, int], int] = {}  # of the environment in that row around that atom
        for generator in (_CHIRAL, _FLAT):
            output = rdFingerprintGenerator.AdditionalOutput()
            output.AllocateBitInfoMap()
            generator.GetSparseCountFingerprint(molecule, additionalOutput=output)
            for identifier, places in output.GetBitInfoMap().items():
                if (row := self._environment_rows.get(identifier)) is not None:
                    radii |= {(atom, row): radius for atom, radius in places}
        distances = Chem.GetDistanceMatrix(molecule)
        features = self([smiles])
        atoms = [None, *atoms_of_tokens(smiles, molecule)]
        described = []
        for token, row in zip(np.repeat(np.arange(len(atoms)), features.feature_counts), features.ids.tolist(), strict=True):
            atom = atoms[token]
            within = np.zeros(0, bool) if atom is None else distances[atom] <= radii.get((atom, row), 0)
            described.append(np.flatnonzero(within))
        return described


def atoms_of_tokens(smiles: str, molecule: Chem.Mol) -> list[int | None]:
    """The index of the atom that each token of a SMILES stands for; None for bonds, branches, ring closures and merged hydrogens."""
    are_atoms = list(map(is_atom, split_smiles(smiles)))
    atoms = iter(_atom_of_token(smiles, molecule, sum(are_atoms)))
    return [next(atoms) if token_is_atom else None for token_is_atom in are_atoms]


def _parse(smiles: str) -> Chem.Mol:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"not a SMILES that RDKit can read: {smiles[:200]!r}")
    return molecule


def _atom_of_token(smiles: str, molecule: Chem.Mol, atom_tokens: int) -> list[int | None]:
    """The index of the atom each atom token stands for; None for an explicit hydrogen that RDKit merged into its neighbour."""
    if molecule.GetNumAtoms() == atom_tokens:
        return list(range(atom_tokens))
    options = Chem.SmilesParserParams()
    options.removeHs = False
    written = Chem.MolFromSmiles(smiles, options)
    for atom in written.GetAtoms():
        atom.SetIntProp("token", atom.GetIdx())
    places: list[int | None] = [None] * atom_tokens
    for atom in Chem.RemoveHs(written).GetAtoms():
        places[atom.GetIntProp("token")] = atom.GetIdx()
    return places


def _atom_environments(molecule: Chem.Mol, smiles: str) -> list[set[int]]:
    per_atom: list[set[int]] = [set() for _ in range(molecule.GetNumAtoms())]
    # Without a stereo label the environments with chirality are those without, of a smaller radius: half of all molecules.
    for generator in (_CHIRAL, _FLAT) if _STEREO_MARK.search(smiles) else (_FLAT,):
        output = rdFingerprintGenerator.AdditionalOutput()
        output.AllocateAtomToBits()
        generator.GetSparseCountFingerprint(molecule, additionalOutput=output)
        for atom, identifiers in enumerate(output.GetAtomToBits()):
            per_atom[atom].update(identifiers)
    return per_atom


def _atoms(molecule: Chem.Mol) -> list[Chem.Atom]:
    # Three times as fast as iterating over GetAtoms().
    return [molecule.GetAtomWithIdx(index) for index in range(molecule.GetNumAtoms())]


def _whole_keys(molecule: Chem.Mol, smiles: str, atoms: list[Chem.Atom]) -> list[str]:
    bonds = [molecule.GetBondWithIdx(index) for index in range(molecule.GetNumBonds())]
    bond_rings = molecule.GetRingInfo().BondRings()
    keys = [_MACCS_NAMES[bit] for bit in maccs_keys(molecule, smiles, atoms, bonds, bond_rings)]
    formula = rdMolDescriptors.CalcMolFormula(molecule)
    keys += [f"count:{element}{min(int(count or 1), 80)}" for element, count in _FORMULA.findall(formula)]
    # Charges that the spelling does not show come with RDKit's reading of N(=O)=O.
    charges = [charge for atom in atoms if (charge := atom.GetFormalCharge())]
    keys.append(f"charge:{sum(charges)}")
    charged = Counter("+" if charge > 0 else "-" for charge in charges)
    keys += [f"charged:{sign}{count}" for sign, count in charged.items()]
    rings = Counter(map(len, bond_rings))
    keys += [f"ring:{size}x{count}" for size, count in rings.items()]
    keys.append(f"rings:{sum(rings.values())}")
    keys.append(f"fragments:{smiles.count('.')}")
    # Looking for stereo labels costs more than looking whether the spelling can have any.
    stereo: Counter[str] = Counter()
    if "@" in smiles:
        stereo.update(atom.GetProp("_CIPCode") for atom in atoms if atom.HasProp("_CIPCode"))
    if "/" in smiles or "\\" in smiles:
        stereo.update(_STEREO_LABELS[label] for bond in bonds if (label := bond.GetStereo()) in _STEREO_LABELS)
    keys += [f"stereo:{label}{count}" for label, count in stereo.items()]
    unsaturated = Counter(kind for bond in bonds if (kind := bond.GetBondType()) != Chem.BondType.SINGLE)
    keys += [f"bonds:{kind.name}{min(count, 40)}" for kind, count in unsaturated.items()]
    return keys
