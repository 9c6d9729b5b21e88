"""Every metric of the service that is counted as things happen. Labels are names of our own: never libraries, callers, or what they sent."""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

RPC_SECONDS = Histogram("atomas_rpc_seconds", "Calls that ended, over gRPC and HTTP", ["method", "code"], buckets=_CALL_SECONDS)
CALLS_IN_FLIGHT = Gauge("atomas_calls_in_flight", "Calls and streams under way", ["method"])
AUDIT_FAILURES = Counter("atomas_audit_failures", "Audit records that could not be written at once")

ENCODE_SECONDS = Histogram(
    "atomas_encode_seconds",
    "Encoding as callers see it, here or by workers",
    ["encoder", "call"],
    buckets=_STEP_SECONDS,
)
BATCH_ITEMS = Histogram("atomas_encoder_batch_items", "Items that shared a forward pass", ["kind"], buckets=_COUNTS)
BATCH_TOKENS = Histogram(
    "atomas_encoder_batch_tokens", "Tokens of a forward pass", ["kind"], buckets=(16, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536)
)
BATCH_WAIT_SECONDS = Histogram(
    "atomas_encoder_wait_seconds", "How long the first item of a batch waited for the model", ["kind"], buckets=_STEP_SECONDS
)
BATCH_SECONDS = Histogram("atomas_encoder_batch_seconds", "Forward passes with their preparation", ["kind"], buckets=_STEP_SECONDS)
QUERY_CACHE = Counter("atomas_query_cache", "Vectors that were looked for among those remembered", ["result"])

INDEX_SECONDS = Histogram("atomas_index_seconds", "Calls of the vector index", ["call"], buckets=_STEP_SECONDS)
STRUCTURE_SECONDS = Histogram(
    "atomas_structure_index_seconds", "Calls of the structure index, as callers see them", ["call"], buckets=_STEP_SECONDS
)
KEEPER_SECONDS = Histogram("atomas_keeper_seconds", "Calls of a fleet's structure keeper, as it sees them", ["call"], buckets=_STEP_SECONDS)

CHEMISTRY_SECONDS = Histogram(
    "atomas_chemistry_seconds", "Tasks of the chemistry processes, with their wait for one", ["work"], buckets=_STEP_SECONDS
)
CHEMISTRY_STRUCTURES = Counter(
    "atomas_chemistry_structures", "Structures by what became of them in the chemistry processes", ["work", "verdict"]
)

IMPORT_ROWS = Counter("atomas_import_rows", "Imported rows by their verdict", ["verdict"])
IMPORT_REJECTIONS = Counter("atomas_import_rejections", "Rejected rows by their reason", ["reason"])

JOB_SECONDS = Histogram(
    "atomas_job_seconds", "Attempts at background jobs", ["task", "outcome"], buckets=(0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
)

GENERATIONS = Counter("atomas_generations", "Generations that ended", ["task", "state"])
GENERATION_ATTEMPTS = Counter("atomas_generation_attempts", "Molecules that the decoder wrote, by what became of them", ["verdict"])
