"""Every setting of the service, read from `ATOMAS_*` environment variables; `docs/settings.md` is generated from here."""

import pathlib
from typing import Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Where container engines put secrets: a file there, such as `atomas_database_url`, stands for the variable of that name.
SECRETS_FOLDER = pathlib.Path("/run/secrets")


class Settings(BaseSettings):
    """Settings with their defaults; the defaults run the whole service in one process on loopback."""

    model_config = SettingsConfigDict(
        env_prefix="ATOMAS_", extra="ignore", frozen=True, secrets_dir=SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None
    )

    listen: str = Field("127.0.0.1:50051", description="Address and port of the gRPC server; port 0 takes a free one.")
    http_listen: str = Field(
        "127.0.0.1:8080",
        description="Address and port of the portal and the REST interface; port 0 takes a free one, empty serves neither.",
    )
    http_hosts: str = Field(
        "",
        description="Host names under which the HTTP server may be asked, separated by commas, `*` for any; "
        "when empty, a server on loopback answers to loopback's names alone.",
    )
    http_body_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest JSON body of an HTTP request.")
    http_upload_bytes: int = Field(4 * 1024**3, ge=1024, description="Largest file that is imported over HTTP.")
    data_dir: pathlib.Path = Field(
        pathlib.Path("var/atomas"), description="Folder of everything the embedded service keeps: SQLite, vector index, lock."
    )
    database_url: str = Field("", description="SQLAlchemy URL of the metadata database; empty keeps SQLite in the data folder.")
    qdrant_url: str = Field(
        "", description="gRPC or HTTP URL of a Qdrant server; empty runs the Qdrant engine in this process, in the data folder."
    )
    qdrant_api_key: str = Field("", description="Key that the Qdrant server asks for.")
    qdrant_timeout_seconds: int = Field(10, ge=1, le=600, description="How long one call to the Qdrant server may take.")
    qdrant_shards: int = Field(
        1, ge=1, description="Shards of a new collection: at least one for each node of the Qdrant cluster, two or three to grow by."
    )
    qdrant_replicas: int = Field(1, ge=1, description="Copies of each shard of a new collection; 2 survive the loss of a node.")
    qdrant_write_consistency: int = Field(1, ge=1, description="Copies that must have a write before it counts, in a new collection.")
    qdrant_on_disk: bool = Field(
        True, description="New collections keep full vectors, payloads and their indexes on disk; the quantised vectors stay in memory."
    )
    qdrant_quantised: bool = Field(
        True, description="New collections find candidates by int8 copies of the vectors and rank them by the full ones."
    )
    qdrant_oversampling: float = Field(
        2.0, ge=1, le=16, description="Candidates that are ranked by their full vectors, as a multiple of the hits wanted."
    )
    qdrant_hnsw_ef: int = Field(128, ge=10, le=4096, description="How widely the graph is searched: more finds more, and takes longer.")
    structures_url: str = Field(
        "",
        description="Fleet: address of the structure keeper (`python -m server structures`), grpc://HOST:PORT; without one searches by substructure "
        "and fingerprint need the database's RDKit cartridge, or are refused. The embedded service has a keeper of its own.",
    )
    structure_cartridge: bool = Field(
        True,
        description="Keep structures in PostgreSQL where its RDKit cartridge is installed, or may be, and no structure keeper is named: no process of its "
        "own, and every server and worker of a fleet asks the database.",
    )
    structures_listen: str = Field("127.0.0.1:50061", description="Fleet: address and port on which the structure keeper listens.")
    structure_live_molecules: int = Field(
        30_000, ge=0, description="Molecules that the structure keeper holds ready to match, some 15 KB each; others are unpacked first."
    )
    pattern_seconds: float = Field(
        10.0, gt=0, le=600, description="Time one substructure pattern may take before it is refused as TIMEOUT."
    )
    broker_url: str = Field(
        "",
        description="URL of the message broker, redis://HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672/: this process is then one of a fleet, "
        "whose workers (`python -m workers`) encode and do the background jobs. Needs a database URL and a Qdrant URL.",
    )
    model_dir: pathlib.Path | None = Field(
        None, description="Folder of the model's checkpoint; the weights in the source tree when not set."
    )
    encoder_threads: int = Field(0, ge=0, le=256, description="CPU threads of the encoder; 0 takes one per core.")
    encoder_batch_tokens: int = Field(8192, ge=256, description="Tokens that one forward pass takes at the most.")
    encoder_batch_wait_seconds: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How long a query waits for company before it is encoded; calls that come while the model is busy are gathered anyway.",
    )
    chemistry_processes: int = Field(0, ge=0, le=256, description="Processes that standardise molecules; 0 takes one per core.")
    max_smiles_characters: int = Field(
        5000, ge=10, description="Longest SMILES or InChI that is read; longer ones are rejected as TOO_LARGE."
    )
    max_atoms: int = Field(
        999, ge=1, le=999, description="Atoms of the largest molecule that is read, hydrogens not counted; InChI ends there."
    )
    molecule_seconds: float = Field(
        10.0, gt=0, description="Time one molecule may take in the chemistry door before it is rejected as TIMEOUT."
    )
    max_text_characters: int = Field(20_000, ge=100, description="Longest text query; longer ones are refused as TEXT_TOO_LONG.")
    request_threads: int = Field(16, ge=1, le=1024, description="Calls that are worked on at the same time.")
    request_queue: int = Field(64, ge=0, description="Calls that may wait for a thread; beyond that calls are refused as OVERLOADED.")
    max_request_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Largest gRPC message that is received; clients send rows of 8 MiB at the most."
    )
    max_message_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest gRPC message that is sent.")
    min_free_disk_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Writes are refused as DISK_FULL when the data folder's disk has less free space."
    )
    sweep_seconds: float = Field(15.0, gt=0, description="How often unfinished background work is looked for and sent again.")
    import_idle_hours: float = Field(
        24.0, gt=0, description="An import whose client has been silent for so long is closed; the rows that it sent stay."
    )
    job_attempts: int = Field(5, ge=1, description="Attempts at one background job before its operation fails with the reason.")
    job_resend_seconds: float = Field(
        60.0, gt=0, description="Fleet: a job whose work still stands so long after it was sent counts as lost and is sent again."
    )
    job_visibility_seconds: int = Field(
        600, ge=10, description="Fleet on Redis: a job that its worker has not finished by then is given to another one."
    )
    encoder_silence_seconds: float = Field(
        10.0, gt=0, description="Fleet: queries are refused as ENCODER_UNAVAILABLE when no worker has answered any of them for so long."
    )
    query_cache_entries: int = Field(10_000, ge=0, description="Fleet: vectors of recent queries that the server remembers.")
    worker_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Fleet: tasks that a worker does at the same time; 0 takes 16 for the queue encode and 2 for each other.",
    )
    generation_seconds: float = Field(
        120.0, gt=0, description="Time that one generation may take from its start; what was found by then is the answer."
    )
    index_optimise_points: int = Field(
        100_000, ge=100, description="Points in the in-process index from which an HNSW graph replaces exact search."
    )
    auth_required: bool = Field(
        False,
        description="Every call needs an API key or a token; the first key is made by `python -m server keys create`. docs/security.md tells more.",
    )
    allow_insecure: bool = Field(
        False,
        description="Serve addresses that other machines reach without keys or without TLS: where a network that nobody else is on does their work.",
    )
    tls_certificate: pathlib.Path | None = Field(
        None,
        description="PEM file of the server's certificate chain, for gRPC and HTTP; a renewed file is used from the next connection on.",
    )
    tls_key: pathlib.Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: pathlib.Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are let in, and no others: mutual TLS."
    )
    jwt_jwks_file: pathlib.Path | None = Field(
        None,
        description="JSON Web Key Set of an identity provider, whose tokens are then taken like API keys; a changed file is read again.",
    )
    jwt_jwks_url: str = Field(
        "",
        description="Address of the key set instead of a file, https or on loopback: fetched when a token first needs it, and again as keys change.",
    )
    jwt_jwks_refresh_seconds: float = Field(
        600.0, ge=10, description="How old keys from that address may be; a key unknown here is asked for at once."
    )
    jwt_jwks_ca_certificate: pathlib.Path | None = Field(
        None, description="PEM file of the authorities of that address; the system's when not set."
    )
    jwt_audience: str = Field("", description="Name of this service in the claim `aud` of tokens.")
    jwt_issuer: str = Field("", description="Who makes the tokens, as in their claim `iss`; empty for anyone with a key of the set.")
    jwt_scope_claim: str = Field("scope", description="Claim whose words `atomas:LIBRARY:LEVEL` say what the bearer may do.")
    max_calls: int = Field(512, ge=0, description="Calls and streams at once, of all callers together; 0 for no limit.")
    caller_calls: int = Field(128, ge=0, description="Calls and streams at once of one caller; 0 for no limit.")
    caller_units_per_second: float = Field(
        0.0,
        ge=0,
        description="Units that one caller may use in a second, in the long run: tokens that the model reads or writes, rows and calls; 0 for no limit.",
    )
    caller_units_reserve: float = Field(100_000.0, ge=1, description="Units that a caller who was quiet may send at once.")
    library_max_compounds: int = Field(0, ge=0, description="Compounds from which a library takes no more rows; 0 for no limit.")
    shutdown_seconds: float = Field(10.0, ge=0, description="Grace given to running calls when the server stops.")
    audit_log: str = Field(
        "",
        description="File to which a record of every call is appended, who asked for what and when, or `stderr`; empty keeps none. "
        "docs/observability.md tells more.",
    )
    audit_key: str = Field(
        "",
        description="Key of the hashes of queries in the audit log, 64 hexadecimal digits; empty keeps one in the data folder. Servers of a fleet share it.",
    )
    audit_failure: Literal["refuse", "continue"] = Field(
        "refuse", description="While audit records cannot be written: refuse every call as AUDIT_UNAVAILABLE, or go on."
    )
    metrics_listen: str = Field(
        "",
        description="Address and port where Prometheus finds the metrics of this process, such as 127.0.0.1:9464, over HTTP without keys; empty serves none.",
    )
    otlp_endpoint: str = Field("", description="OTLP/gRPC endpoint that receives traces, such as http://127.0.0.1:4317; empty sends none.")
    otlp_ratio: float = Field(1.0, ge=0, le=1, description="Share of the traces that are begun here and sent.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log record that is written.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")
    log_exception_messages: bool = Field(
        False, description="Log the messages of unforeseen exceptions too, which may repeat structures and texts that callers sent."
    )

    @property
    def sql_url(self) -> str:
        """The database that is used: the configured one, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{quote(str(self.data_dir / 'atomas.sqlite3'))}"

    @property
    def place(self) -> str:
        """Where the state lives, for people."""
        return "the fleet's servers" if self.broker_url else str(self.data_dir)


def environment_name(field: str) -> str:
    """`data_dir` -> `ATOMAS_DATA_DIR`."""
    return "ATOMAS_" + field.upper()


def as_markdown() -> str:
    """The reference of all settings, as `docs/settings.md` holds it."""
    lines = [
        "# Settings",
        "",
        "Read from the environment when the server starts, or from files in `/run/secrets` named like the variables in small letters.",
        "Generated by `python -m server settings`; a test keeps it fresh.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        lines.append(f"| `{environment_name(name)}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"
