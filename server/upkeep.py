"""Commands that look after what the service keeps: `python -m server verify`, `use-model`, `snapshots`."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.domain.errors import AtomasError, Reason
from server.settings import Settings

if TYPE_CHECKING:
    from server.usecases.verify_index import Finding


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Each sets `run`."""
    verify = commands.add_parser(
        "verify",
        help="compare the indexes with the database; an embedded service must be stopped, a fleet may run",
        description="Exit code 0 when they agree or were mended, 1 otherwise.",
    )
    verify.add_argument("--repair", action="store_true", help="index again what is missing or stale, remove what is orphaned")
    verify.set_defaults(run=_verify)
    use_model = commands.add_parser(
        "use-model",
        help="let the model of ATOMAS_MODEL_DIR answer when the checkpoint of the serving one is lost; its index is filled anew",
    )
    use_model.set_defaults(run=_use_model)
    snapshots = commands.add_parser("snapshots", help="list, create or restore snapshots of the collections of a Qdrant server")
    actions = snapshots.add_subparsers(dest="action")
    actions.add_parser("create", help="of every model's collection, on the Qdrant server's disk")
    restore = actions.add_parser("restore", help="put a model's collection back as a snapshot has it")
    restore.add_argument("model", help="version of the model")
    restore.add_argument("location", help="URL that the Qdrant server reads, such as file:///qdrant/snapshots/COLLECTION/NAME")
    snapshots.set_defaults(run=_snapshots)


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    from server.bootstrap import maintenance
    from server.usecases.verify_index import leftovers, verify

    wrong = 0
    with maintenance(settings) as ports:
        for finding in verify(ports, repair=options.repair, here=not settings.broker_url):
            wrong += finding.wrong
            if finding.library or finding.wrong:
                print("\n".join(_finding_lines(finding)), flush=True)
        for version in leftovers(ports):
            print(f"model {version}: an index that no model of this service uses")
            # A Qdrant server may be shared: what is not known here may be known elsewhere.
            if options.repair and not settings.qdrant_url:
                ports.models.discard_index(version)
                print("  removed")
    if not wrong:
        print("The indexes agree with the database.")
        return 0
    if not options.repair:
        print(f"{wrong:,} differences. Mend them by `python -m server verify --repair`.")
        return 1
    print(
        f"{wrong:,} differences mended." if not settings.broker_url else f"{wrong:,} differences: orphans are removed, jobs mend the rest."
    )
    return 0


def _finding_lines(finding: "Finding") -> list[str]:
    where = f"library {finding.library}" if finding.library else "no library"
    lines = [f"{finding.index}, {where}: {finding.compounds:,} compounds, {finding.wrong:,} wrong"]
    if finding.waiting:
        lines.append(f"  waiting for a job: {finding.waiting:,}")
    kinds = {
        "cannot be encoded": finding.refused,
        "missing": finding.missing,
        "stale": finding.stale,
        "orphaned": finding.orphaned,
    }
    for kind, difference in kinds.items():
        if difference.count:
            more = ", ..." if difference.count > len(difference.examples) else ""
            lines.append(f"  {kind}: {difference.count:,} ({', '.join(difference.examples)}{more})")
    return lines


def _use_model(settings: Settings, options: argparse.Namespace) -> int:
    from server.bootstrap import use_configured_model

    print(f"Model {use_configured_model(settings)} answers from now on. Its index is filled from the database while the service runs.")
    return 0


def _snapshots(settings: Settings, options: argparse.Namespace) -> int:
    from server.adapters.qdrant_admin import QdrantAdmin, Snapshot

    if not settings.qdrant_url:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, "Snapshots are of a Qdrant server: set ATOMAS_QDRANT_URL, or use `python -m server backup`."
        )

    def show(found: Sequence[Snapshot]) -> None:
        for each in found:
            created = f"{each.create_time:%Y-%m-%d %H:%M}" if each.create_time else ""
            print(f"{each.model_version}  {each.name}  {each.bytes:,} bytes  {created}")

    admin = QdrantAdmin.of(settings)
    if options.action == "restore":
        admin.restore(options.model, options.location)
        print("Restored. What the database has and the snapshot lacks is mended by `python -m server verify --repair`.")
    else:
        show(admin.create_snapshots() if options.action == "create" else admin.snapshots())
    return 0
