"""`python -m server keys`: make the first API key, and look after keys where no service runs."""

import argparse
from datetime import UTC, datetime, timedelta

from server.domain.access import parse_scope
from server.settings import Settings

_LISTED = 10_000


def add_key_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Each sets `run`."""
    keys = commands.add_parser("keys", help="make, list and revoke API keys; the service may run or not")
    actions = keys.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="print the secret of a new key, once")
    create.add_argument(
        "--scope", action="append", required=True, metavar="LIBRARY:LEVEL", help="such as chebi:read or -:admin; may be repeated"
    )
    create.add_argument("--name", default="", help="what the key is for")
    create.add_argument("--days", type=float, help="until it expires; never when left out")
    create.set_defaults(run=_create)
    actions.add_parser("list", help="list keys, the revoked ones too").set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="end a key at once")
    revoke.add_argument("prefix", help="the part of the secret after atk_")
    revoke.set_defaults(run=_revoke)


def _create(settings: Settings, options: argparse.Namespace) -> int:
    from server.bootstrap import metadata_database, trust
    from server.usecases.manage_keys import create_key

    expire_time = None if options.days is None else datetime.now(UTC) + timedelta(days=options.days)
    scopes = [parse_scope(text) for text in options.scope]
    with metadata_database(settings) as database:
        _, secret = create_key(options.name, scopes, expire_time, database, trust(settings).hashes)
    print(secret)
    return 0


def _list(settings: Settings, options: argparse.Namespace) -> int:
    from server.bootstrap import metadata_database
    from server.usecases.manage_keys import list_keys

    with metadata_database(settings) as database:
        for key in list_keys("", _LISTED, database):
            state = "valid" if key.valid_at(datetime.now(UTC)) else "revoked" if key.revoke_time else "expired"
            scopes = " ".join(f"{scope.library}:{scope.level.name.lower()}" for scope in key.scopes)
            print(f"{key.prefix}  {state}  {scopes}  {key.display_name}")
    return 0


def _revoke(settings: Settings, options: argparse.Namespace) -> int:
    from server.bootstrap import metadata_database
    from server.usecases.manage_keys import revoke_key

    with metadata_database(settings) as database:
        revoke_key(options.prefix, database)
    print(f"{options.prefix} is revoked.")
    return 0
