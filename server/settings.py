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
    data_dir: pathlib.Path = Field(
        pathlib.Path("var/atomas"), description="Folder of everything the embedded service keeps: SQLite, vector index, lock."
    )
    database_url: str = Field("", description="SQLAlchemy URL of the metadata database; empty keeps SQLite in the data folder.")
    qdrant_url: str = Field(
        "", description="gRPC or HTTP URL of a Qdrant server; empty runs the Qdrant engine in this process, in the data folder."
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
    max_message_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="Largest gRPC message in either direction.")
    min_free_disk_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Writes are refused as DISK_FULL when the data folder's disk has less free space."
    )
    sweep_seconds: float = Field(15.0, gt=0, description="How often unfinished background work is looked for and sent again.")
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
    index_optimise_points: int = Field(
        100_000, ge=100, description="Points in the in-process index from which an HNSW graph replaces exact search."
    )
    shutdown_seconds: float = Field(10.0, ge=0, description="Grace given to running calls when the server stops.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log record that is written.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")

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
