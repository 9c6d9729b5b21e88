"""`python -m server`: serve, migrate the database, look after what is kept, or print the settings' reference."""

import argparse
import asyncio
import signal
import sys
import textwrap
import threading

from server.backup_commands import add_backup_commands
from server.key_commands import add_key_commands
from server.observability.logs import report_crashes
from server.program import run_with_settings
from server.settings import Settings, as_markdown, environment_name
from server.upkeep import add_commands


def main() -> int:
    """Returns the exit code: 0 fine, 1 the service could not run, 2 wrong usage."""
    options = _parser().parse_args()
    if options.command == "settings":
        print(as_markdown(), end="")
        return 0
    return run_with_settings(lambda settings: _work(settings, options))


def _work(settings: Settings, options: argparse.Namespace) -> int:
    if options.run is not None:
        return int(options.run(settings, options))
    if options.command == "structures":
        return _keep_structures(settings)
    return _migrate(settings) if options.command == "migrate" else _serve(settings)


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(
        textwrap.fill(f"{environment_name(name)}: {field.description}", 100, initial_indent="  ", subsequent_indent="      ")
        for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="The Atomas service: search between molecules and words.",
        epilog=f"settings, from the environment:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until stopped (the default)")
    commands.add_parser("migrate", help="bring the database's schema up to date")
    commands.add_parser("settings", help="print the reference of all settings as Markdown")
    commands.add_parser("structures", help="keep the structures of a fleet: answers searches by substructure and fingerprint")
    parser.set_defaults(run=None)
    add_commands(commands)
    add_backup_commands(commands)
    add_key_commands(commands)
    return parser


def _migrate(settings: Settings) -> int:
    from server.adapters.sql.migrate import migrate

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.sql_url)
    print("The database is up to date.")
    return 0


def _keep_structures(settings: Settings) -> int:
    from server.bootstrap import structure_server
    from server.observability.process import observed_process
    from server.rpc.exposure import require_private_keeper

    require_private_keeper(settings)
    stopped = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopped.set())
    with structure_server(settings) as port, observed_process(settings, "atomas-structures"):
        host = settings.structures_listen.rpartition(":")[0]
        print(f"Atomas keeps structures on {host}:{port}, data in {settings.data_dir / 'structures'}.", flush=True)
        stopped.wait()
    return 0


def _serve(settings: Settings) -> int:
    from server.bootstrap import service, trust
    from server.observability.process import observed_process
    from server.rest.http_server import HttpServer
    from server.rpc.app import App
    from server.usecases.take_stock import take_stock

    async def run() -> None:
        app = App(ports, settings, trust(settings))
        port = await app.start()
        host = settings.listen.rpartition(":")[0]
        http = HttpServer(app.methods, app.gate, settings) if settings.http_listen else None
        portal = f" and on {await http.start()}" if http else ""
        print(f"Atomas serves on {host}:{port}{portal}, data in {settings.place}, model {ports.encoder.model.version}.", flush=True)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stopped.set)
        await stopped.wait()
        if http:
            await http.stop()
        await app.stop()

    with service(settings) as ports, observed_process(settings, "atomas-server", lambda: take_stock(ports)):
        asyncio.run(run())
    return 0


if __name__ == "__main__":
    report_crashes()
    sys.exit(main())
