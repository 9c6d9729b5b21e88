"""Import of the shipped library end to end, against the encoder alone on the same compounds in the same run; or of a large file through a fleet.

    python -m benchmarks.ingest [--compounds 0]
    python -m benchmarks.ingest --data smiles_corpus.tsv.gz [--rows 0] [--minutes 30] [--output var/ingest.jsonl]
    python -m benchmarks.ingest --summary var/ingest.jsonl

0 is everything. The encoder alone encodes the standardised molecules and their texts, as the import does. With --data the first column of a gzipped
tab-separated file with a header goes through a whole local fleet: rate over time, processor time of each stage, memory of each process.
"""

import argparse
import tempfile
import time
from pathlib import Path

from atomas import Client
from benchmarks.ingest_fleet import import_through_fleet, summarise
from benchmarks.library import shipped_library
from benchmarks.query import Served
from server.bootstrap import service
from server.observability import configure_logs
from server.settings import Settings
from server.usecases.index_compounds import searchable_text

TARGET_SHARE = 0.7
PAGE = 1_000


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=0)
    parser.add_argument("--data", type=Path, help="import this file through a fleet")
    parser.add_argument("--rows", type=int, default=0, help="of the file, from its beginning")
    parser.add_argument("--minutes", type=float, default=30.0, help="after these no more rows are sent; 0 sends all")
    parser.add_argument("--output", type=Path, default=Path("var/ingest.jsonl"), help="samples, a line each, as they are taken")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--summary", type=Path, help="only print again what these samples say")
    options = parser.parse_args()
    configure_logs("error", "text")
    if options.summary:
        summarise(options.summary)
    elif options.data:
        import_through_fleet(options.data, options.rows, options.minutes, options.output, options.every)
    else:
        against_the_encoder(options.compounds)


def against_the_encoder(compound_count: int) -> None:
    """Prints both rates and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), listen="127.0.0.1:0")
        with (
            service(settings) as ports,
            shipped_library(compound_count) as library,
            Served(ports, settings) as served,
            Client(served.address) as client,
        ):
            started = time.perf_counter()
            report = client.import_compounds(library, library="chebi")
            import_seconds = time.perf_counter() - started
            encode_seconds, count, after = 0.0, 0, ""
            while True:
                with ports.database.reading() as transaction:
                    compounds = transaction.compounds.page("chebi", after, PAGE)
                if not compounds:
                    break
                after = compounds[-1].inchikey
                count += len(compounds)
                texts = [text for text, _ in (searchable_text(compound, ports.encoder) for compound in compounds) if text]
                started = time.perf_counter()
                ports.encoder.encode_molecules_and_fragments([compound.structure.smiles for compound in compounds])
                ports.encoder.encode_texts(texts)
                encode_seconds += time.perf_counter() - started
    imported, encoded = report.counts.received / import_seconds, count / encode_seconds
    print(f"{report.counts}")
    print(f"import end to end          {imported:8.0f} rows/s ({import_seconds:.0f} s)")
    print(f"encoder alone              {encoded:8.0f} compounds/s ({encode_seconds:.0f} s)")
    print(f"ratio {imported / encoded:.2f} (target {TARGET_SHARE})")


if __name__ == "__main__":
    main()
