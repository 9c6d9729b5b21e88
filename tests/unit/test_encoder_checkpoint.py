"""Checkpoints: read back what was written, refuse everything else with a reason."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder import manifest as manifests
from encoder.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from encoder.features import TextFeatures
from encoder.quantisation import dequantise, quantise
from tests.encoder_models import sample_features, small_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", small_model(), *sample_features())
    return tmp_path / "model"


@pytest.mark.parametrize("bits", [4, 8])
def test_a_checkpoint_is_read_back_as_it_was_written(tmp_path: Path, bits: int) -> None:
    model, (texts, molecules) = small_model(), sample_features()
    version = save_checkpoint(tmp_path, model, texts, molecules, bits)
    loaded = load_checkpoint(tmp_path)
    assert loaded.version == version
    assert loaded.model.config == model.config
    assert loaded.text_features.ngrams == texts.ngrams
    assert loaded.molecule_features.keys == molecules.keys
    assert loaded.molecule_features.environments == molecules.environments
    assert (loaded.text_features(["an acid"]).mass == texts(["an acid"]).mass).all()
    for name, tensor in model.state_dict().items():
        error = (loaded.model.state_dict()[name] - tensor).norm() / tensor.norm().clamp_min(1e-6)
        assert error < (0.12 if name.endswith(".table") and bits == 4 else 0.01), name


def test_reading_a_checkpoint_fills_no_table_with_random_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(tensor: torch.Tensor, **_: float) -> torch.Tensor:
        raise AssertionError("On tensors without memory torch loads its compiler for this: seconds of every process that starts.")

    monkeypatch.setattr(torch.nn.init, "normal_", fill)
    assert load_checkpoint(folder).model.config.dimension == 32


def test_the_version_names_weights_features_and_configuration(tmp_path: Path) -> None:
    texts, molecules = sample_features()
    versions = [
        save_checkpoint(tmp_path / "a", small_model(), texts, molecules),
        save_checkpoint(tmp_path / "b", small_model(), texts, molecules),
        save_checkpoint(tmp_path / "c", small_model(seed=1), texts, molecules),
        save_checkpoint(tmp_path / "d", small_model(max_tokens=10), texts, molecules),
        save_checkpoint(tmp_path / "e", small_model(), TextFeatures(texts.ngrams[::-1], texts.learnt_idf, texts.buckets), molecules),
    ]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4


def test_a_checkpoint_holds_safetensors_and_json_only(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_a_pickle_in_place_of_the_weights_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    content = pickle.dumps(Trap())
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        load_checkpoint(folder)
    _trust(folder)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(folder)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "features.json", "model.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["weights.safetensors", "features.json"])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_one_changed_byte_is_noticed(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        load_checkpoint(folder)


def test_a_truncated_file_is_noticed(folder: Path) -> None:
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other-1"}', "null"])
def test_a_foreign_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "model.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_checkpoint(folder)


@pytest.mark.parametrize("constant", ["FEATURES_VERSION", "STANDARD_VERSION"])
def test_a_checkpoint_made_for_other_features_or_chemistry_is_refused(folder: Path, constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, constant, "another")
    with pytest.raises(CheckpointError, match="train it again"):
        load_checkpoint(folder)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path) -> None:
    manifest = json.loads((folder / "model.json").read_text())
    manifest["config"]["width"] = 64
    (folder / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(folder)


def test_an_interrupted_save_leaves_no_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, small_model(seed=1), *sample_features())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_checkpoint(folder)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.integers(32, 64))
def test_quantised_tables_come_back_close(seed: int, bits: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(rows, 64, generator=generator) * torch.rand(rows, 1, generator=generator)
    error = (dequantise(quantise(table, bits)) - table).norm() / table.norm().clamp_min(1e-6)
    assert error < (0.15 if bits == 4 else 0.01)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_of_zeros_stays_zero_enough(bits: int) -> None:
    table = torch.randn(8, 16)
    table[3] = 0
    assert dequantise(quantise(table, bits))[3].abs().max() < 1e-5


def test_other_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="4 or 8"):
        quantise(torch.zeros(2, 2), 3)


def _trust(folder: Path) -> None:
    """Make the manifest vouch for the files as they are."""
    manifest = json.loads((folder / "model.json").read_text())
    manifest["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["sha256"]}
    (folder / "model.json").write_text(json.dumps(manifest))
