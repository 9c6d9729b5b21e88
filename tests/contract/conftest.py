"""Fixtures of the suites in this folder, by name."""

from tests.contract.brokers import rabbitmq_server, redis_server
from tests.contract.databases import (
    database,
    empty_postgres,
    empty_url,
    migrated_postgres,
    migrated_sqlite,
    postgres_server,
    postgres_url,
    sql_url,
    sqlite_url,
)

__all__ = [
    "database",
    "empty_postgres",
    "empty_url",
    "migrated_postgres",
    "migrated_sqlite",
    "postgres_server",
    "postgres_url",
    "rabbitmq_server",
    "redis_server",
    "sql_url",
    "sqlite_url",
]
