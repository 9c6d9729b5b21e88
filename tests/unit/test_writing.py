"""A decoder trained on the shipped sample: one checkpoint, resumable, writes both ways, refuses what it cannot read."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from encoder.__main__ import main
from encoder.checkpoint import load_checkpoint
from encoder.decoder_checkpoint import NoDecoderError
from encoder.generation import Cancelled
from encoder.generator import MOST, MOST_EDITS, Generator, Neighbour
from encoder.inference import EmptyInputError, TooLongError
from encoder.manifest import CheckpointError, ModelFacts
from encoder.prose import Manner, manner_of, normalise
from encoder.training.captions import gather
from encoder.training.dataset import Pair
from encoder.training.decoding_recipes import tiny, train_decoder

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample_pairs"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
NEIGHBOURS = [
    Neighbour(
        "O=C(O)c1ccccc1O",
        "salicylic acid",
        "It is a monohydroxybenzoic acid that is benzoic acid with a hydroxy group at position 2. It is toxic.",
    ),
    Neighbour("Oc1ccccc1", "phenol"),
    Neighbour("c1ccccc1"),
]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoder")
    assert main(["train", "tiny", "--out", str(out), "--threads", "1"]) == 0
    return out / "checkpoint"


@pytest.fixture(scope="module")
def decoder_run(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("decoder")
    train_decoder(tiny(), encoder_folder, SAMPLE, out, lambda line: None)
    return out


@pytest.fixture(scope="module")
def generator(decoder_run: Path) -> Generator:
    return Generator.load(decoder_run / "checkpoint")


def test_training_lowers_the_loss_in_both_directions(decoder_run: Path, encoder_folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    train_decoder(tiny(), encoder_folder, SAMPLE, tmp_path, lines.append)
    first, last = (
        dict(zip(words[::2], map(float, words[1::2]), strict=True))
        for words in (line.split() for line in lines if line.startswith("epoch") and "batch" not in line)
    )
    assert last["describe"] < first["describe"]
    assert last["generate"] < first["generate"]


def test_a_killed_run_continues_to_the_same_bytes(decoder_run: Path, encoder_folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "encoder",
        "train",
        "tiny-decoder",
        "--model",
        str(encoder_folder),
        "--out",
        str(tmp_path),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "ATOMAS_TRAINING_DATA": str(SAMPLE)})
    state = tmp_path / "0-state.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "checkpoint").exists()
    train_decoder(tiny(), encoder_folder, SAMPLE, tmp_path, lambda line: None)
    for name in ("decoder.safetensors", "decoder.json", "model.json"):
        assert (tmp_path / "checkpoint" / name).read_bytes() == (decoder_run / "checkpoint" / name).read_bytes(), name


def test_the_checkpoint_holds_both_and_its_version_covers_the_decoder(decoder_run: Path, encoder_folder: Path) -> None:
    both, alone = load_checkpoint(decoder_run / "checkpoint"), load_checkpoint(encoder_folder)
    assert both.version != alone.version
    assert ModelFacts.read(decoder_run / "checkpoint").version == both.version
    for name, weight in alone.model.state_dict().items():
        assert torch.equal(weight, both.model.state_dict()[name])


def test_an_encoder_alone_refuses_to_write_and_says_what_to_do(encoder_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoDecoderError, match="train decoder"):
        Generator.load(encoder_folder)
    pairs = str(ROOT / "data" / "chebi20" / "validation.tsv")
    assert main(["evaluate", "captioning", "--pairs", pairs, "--model", str(encoder_folder)]) == 1
    assert "train decoder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["decoder.safetensors", "decoder.json"])
def test_a_damaged_decoder_is_refused(decoder_run: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(decoder_run / "checkpoint", folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Generator.load(folder)
    load_checkpoint(folder)  # the encoder is whole


def test_descriptions_come_with_their_scores_and_depend_on_the_neighbours(generator: Generator) -> None:
    alone, beside = generator.describe(ASPIRIN), generator.describe(ASPIRIN, NEIGHBOURS)
    assert 1 <= len(alone) <= 4
    assert all(written.text and written.log_probability < 0 and -1 <= written.alignment <= 1 for written in alone + beside)
    assert {written.log_probability for written in alone} != {written.log_probability for written in beside}
    assert generator.describe(ASPIRIN, NEIGHBOURS) == beside
    batched = generator.describe_all([("CCO", ()), (ASPIRIN, NEIGHBOURS)])[1]
    assert [written.text for written in batched] == [written.text for written in beside]


def test_proposals_come_as_they_are_found_and_are_the_same_for_a_seed(generator: Generator) -> None:
    def of(seed: int, count: int = 20) -> list[str]:
        return [proposal.smiles for proposal in generator.propose("an aromatic ether", count, seed, NEIGHBOURS)]

    assert len(of(1)) == 20
    assert of(1) == of(1)
    assert of(1) != of(2)
    assert of(1, 6) == of(1)[:6]


def test_edited_neighbours_are_among_the_proposals_best_first_with_their_probabilities(generator: Generator) -> None:
    text = "an aromatic ether"
    found = [proposal for proposal in generator.propose(text, 12, 0, NEIGHBOURS) if proposal.edited]
    assert 1 <= len(found) <= MOST_EDITS
    assert not {proposal.smiles for proposal in found} & {neighbour.smiles for neighbour in NEIGHBOURS}
    assert all(proposal.log_probability < 0 for proposal in found)
    cosines = generator.encoder.encode_molecules([proposal.smiles for proposal in found]) @ generator.encoder.encode_texts([text])[0]
    assert list(cosines) == sorted(cosines, reverse=True)
    assert not any(proposal.edited for proposal in generator.propose(text, 12, 0))
    together = generator.propose_all([("an acid", ()), (text, NEIGHBOURS)], 12, 0)[1]
    assert [proposal.smiles for proposal in together if proposal.edited] == [proposal.smiles for proposal in found]


def test_whoever_asked_can_give_up(generator: Generator) -> None:
    with pytest.raises(Cancelled):
        list(generator.propose("an aromatic ether", 4, 0, cancelled=lambda: True))
    with pytest.raises(Cancelled):
        generator.describe(ASPIRIN, cancelled=lambda: True)


def test_what_cannot_be_read_is_refused(generator: Generator) -> None:
    with pytest.raises(EmptyInputError):
        generator.propose(" ", 1, 0)
    with pytest.raises(EmptyInputError):
        generator.describe("")
    with pytest.raises(TooLongError):
        generator.describe("C" * 5000)
    for count in (0, MOST + 1):
        with pytest.raises(ValueError, match=str(MOST)):
            generator.propose("an ether", count, 0)
    with pytest.raises(ValueError, match="nonsense"):
        generator.describe(ASPIRIN, [Neighbour("nonsense", "nothing")])


@pytest.mark.parametrize("judgement", ["captioning", "generation"])
@pytest.mark.parametrize("retrieval", [True, False])
def test_a_judgement_prints_the_published_metrics_and_writes_predictions(
    decoder_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], judgement: str, retrieval: bool
) -> None:
    predictions = tmp_path / "predictions.tsv"
    arguments = ["evaluate", judgement, "--pairs", str(ROOT / "data" / "chebi20" / "validation.tsv"), "--limit", "4", "--json"]
    arguments += ["--data", str(SAMPLE), "--kinds", "sample", "--model", str(decoder_run / "checkpoint"), "--predictions", str(predictions)]
    assert main(arguments + ([] if retrieval else ["--no-retrieval"])) == 0
    scores = json.loads(capsys.readouterr().out)
    wanted = (
        {"bleu2", "bleu4", "rouge1", "rouge2", "rougeL"}
        if judgement == "captioning"
        else {"exact", "validity", "raw_validity", "morgan", "likeliest"}
    )
    assert wanted <= scores.keys()
    assert scores["rows"] == 4
    assert scores["neighbours"] == (str(SAMPLE) if retrieval else None)
    with predictions.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert list(rows[0]) == ["SMILES" if judgement == "captioning" else "description", "ground truth", "output"]
    assert len(rows) == 4


@pytest.mark.parametrize("judgement", ["captioning", "generation"])
@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("2\tC1CC\ta broken ring", "'C1CC' cannot be read"),
        ("2\tC1CC1", "too few columns"),
        ("2\tC1CC1\t  ", "the description is empty"),
        ("2\tC1CC1\t" + "ring " * 5000, "5000 tokens, but the model reads at most 4096"),
        (f"2\t{'C' * 5000}\ta chain", "'CCCC"),
    ],
)
def test_a_broken_benchmark_row_is_named_by_file_and_line(
    decoder_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], judgement: str, row: str, complaint: str
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(f"cid\tsmiles\tdescription\n1\tCCO\tan alcohol\n{row}\n")
    assert main(["evaluate", judgement, "--pairs", str(pairs), "--model", str(decoder_run / "checkpoint"), "--no-retrieval"]) == 1
    assert f"pairs.tsv, line 3: {complaint}" in capsys.readouterr().err


def test_rare_molecules_and_foreign_texts_are_written_about(generator: Generator) -> None:
    rare = ["*CC*", "[U]", "b1ccccc1", "[2H]O[2H]", "[H+]", "[Na+].[Cl-]", "[13CH4]"]
    described = generator.describe_all([(smiles, [Neighbour("[Og]", "oganesson", "\U0001f9ea")]) for smiles in rare])
    assert all(written and written[0].text for written in described)
    proposed = generator.propose_all(
        [(text, ()) for text in ("\U0001f9ea\U0001f9ea", "\u043a\u0438\u0441\u043b\u043e\u0442\u0430", "\u9178")], 4, 0
    )
    assert all(proposals for proposals in proposed)


def test_a_benchmark_molecule_among_the_pairs_is_an_error(encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "smiles": "CCSCC[C@@H](C(=O)O)N",
        "inchikey": "GGLZPLKKBSSKCX-YFKPBYRVSA-N",
        "text": "It is an amino acid.",
        "noncommercial": False,
    }
    (tmp_path / "sample.jsonl").write_text(json.dumps(row))
    assert main(["train", "tiny-decoder", "--model", str(encoder_folder), "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "evaluation set" in capsys.readouterr().err


def test_texts_are_brought_to_one_wording_and_sorted_by_manner() -> None:
    assert normalise(" it is a\tketone  that is acetone.") == "The molecule is a ketone that is acetone."
    assert normalise("It has a role as a drug.") == "The molecule has a role as a drug."
    assert normalise("Iterations of it.") == "Iterations of it."
    prose = "The molecule is an ether that is ethane in which a hydrogen is replaced by an ethoxy group. It is an ether."
    assert manner_of(prose) == Manner.PROSE
    assert manner_of("The molecule is an ether.") == Manner.CLASSES
    assert manner_of(normalise("It has a role as a drug. It is an ether.")) == Manner.CLASSES
    assert (
        manner_of("The molecule is a natural product found in Aspergillus with data available and much more to be said about it.")
        == Manner.OTHER
    )
    corpus = gather(
        [
            Pair("C", "A", "methane; marsh gas", "names"),
            Pair("C", "A", "The molecule is an ether.", "x"),
            Pair("C", "A", prose, "x"),
            Pair("C", "A", prose, "x"),
        ]
    )
    assert corpus.names == ["methane"]
    assert corpus.texts == [prose]
    assert [example.manner for example in corpus.examples] == [Manner.NAME, Manner.CLASSES, Manner.PROSE]
