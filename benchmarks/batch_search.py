"""Text searches in one call of BatchSearchCompounds against the same searches one call each, through gRPC, in one run.

python -m benchmarks.batch_search [--data-dir FOLDER] [--compounds 5000] [--queries 1000] [--singles 100]

Processor time is that of this process, which holds service and client, and tells the same when others use the machine.
"""

import argparse
import statistics
import sys
import time

from atomas import Client
from benchmarks.filled import LIBRARY, add_options, filled_service
from benchmarks.library import queries

LIMIT = 5.0


def main() -> None:
    """Prints searches per second both ways; exits with 1 below LIMIT times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--singles", type=int, default=100, help="how many of them are also sent alone")
    options = parser.parse_args()
    with filled_service(options) as (ports, served), Client(served.address, timeout_seconds=300) as client:
        texts = queries(options.queries)
        client.search_many([{"text": text} for text in texts[:50]], library=LIBRARY)
        alone = []
        worked = time.process_time()
        for text in texts[: options.singles]:
            started = time.perf_counter()
            client.search(text=text, library=LIBRARY)
            alone.append(time.perf_counter() - started)
        worked_alone = (time.process_time() - worked) / len(alone)
        started, worked = time.perf_counter(), time.process_time()
        answers = client.search_many([{"text": text} for text in texts], library=LIBRARY)
        together = (time.perf_counter() - started) / len(texts)
        worked_together = (time.process_time() - worked) / len(texts)
        count = ports.index.count(LIBRARY)
    assert all(answer.result for answer in answers)
    ratio = statistics.mean(alone) / together
    print(f"{len(texts)} text searches over {count:,} compounds, limit 10, one caller")
    print(f"one call each   {1 / statistics.mean(alone):7.1f} searches/s, median {statistics.median(alone) * 1e3:.1f} ms")
    print(f"one call of 500 {1 / together:7.1f} searches/s")
    print(f"ratio {ratio:.1f} (at least {LIMIT})")
    busy = worked_alone / worked_together
    print(f"processor time of a search: {1e3 * worked_alone:.1f} ms alone, {1e3 * worked_together:.1f} ms together, ratio {busy:.1f}")
    sys.exit(ratio < LIMIT)


if __name__ == "__main__":
    main()
