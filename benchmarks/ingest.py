"""Import of the shipped library end to end, against the encoder alone on the same compounds in the same run.

    python -m benchmarks.ingest [--compounds 0]

0 imports the whole library. The encoder alone encodes the standardised molecules and their texts, as the import does.
"""

import argparse
import tempfile
import time
from pathlib import Path

from atomas import Client
from benchmarks.library import shipped_library
from benchmarks.query import Served
from server.bootstrap import service
from server.observability import configure_logs
from server.settings import Settings
from server.usecases.index_compounds import searchable_text

TARGET_SHARE = 0.7
PAGE = 1_000


def main() -> None:
    """Prints both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=0)
    options = parser.parse_args()
    configure_logs("error", "text")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), listen="127.0.0.1:0")
        with (
            service(settings) as ports,
            shipped_library(options.compounds) as library,
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
                ports.encoder.encode_molecules([compound.structure.smiles for compound in compounds])
                ports.encoder.encode_texts(texts)
                encode_seconds += time.perf_counter() - started
    imported, encoded = report.counts.received / import_seconds, count / encode_seconds
    print(f"{report.counts}")
    print(f"import end to end          {imported:8.0f} rows/s ({import_seconds:.0f} s)")
    print(f"encoder alone              {encoded:8.0f} compounds/s ({encode_seconds:.0f} s)")
    print(f"ratio {imported / encoded:.2f} (target {TARGET_SHARE})")


if __name__ == "__main__":
    main()
