"""One molecule, one standard form: whatever the spelling, the number of passes, or the nonsense in the text."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem

from encoder.molecules import MoleculeError, Structure, standardise, standardise_structure
from tests.strategies import library_rows, library_smiles, nasty_text, real_smiles, spellings

# Chemistry takes milliseconds and its outliers seconds; unfaithful spellings are thrown away by the strategy.
UNUSUAL = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@settings(max_examples=300, deadline=None, suppress_health_check=UNUSUAL)
@given(data=st.data(), smiles=real_smiles)
def test_any_spelling_of_a_molecule_gives_the_same_molecule(data: st.DataObject, smiles: str) -> None:
    assert standardise_structure(data.draw(spellings(smiles))) == standardise_structure(Structure("smiles", smiles))


def test_standardising_twice_changes_nothing() -> None:
    for smiles in library_smiles():
        once = standardise(smiles)
        assert standardise(once.smiles) == once
        parent = standardise(once.parent_smiles)
        assert (parent.smiles, parent.inchikey) == (once.parent_smiles, once.parent_inchikey)
        assert parent.parent_smiles == parent.smiles


def test_standardising_keeps_the_published_inchikey() -> None:
    for smiles, inchikey in library_rows():
        assert standardise(smiles).inchikey == inchikey


def test_an_inchi_gives_the_same_identity_and_mostly_the_same_drawing() -> None:
    # An InChI of a zwitterion is that of the neutral form: that loss is certain, so these are left out.
    smiles = [smiles for smiles, _ in library_rows() if not ("+" in smiles and "-]" in smiles)]
    molecules = [standardise(s) for s in smiles]
    reread = [standardise(Chem.MolToInchi(Chem.MolFromSmiles(s))) for s in smiles]
    assert [m.inchikey for m in reread] == [m.inchikey for m in molecules]
    # The rest differ in the place of a mobile hydrogen or charge, which an InChI does not hold.
    assert sum(a == b for a, b in zip(molecules, reread, strict=True)) / len(smiles) > 0.94


@settings(max_examples=600, deadline=None, suppress_health_check=UNUSUAL)
@given(text=nasty_text)
def test_no_text_whatever_raises_anything_but_a_molecule_error(text: str) -> None:
    try:
        molecule = standardise(text)
    except MoleculeError as error:
        assert error.message.endswith(".")
    else:
        assert molecule.smiles
