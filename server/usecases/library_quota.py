"""How many compounds a library may hold."""

from server.domain.errors import AtomasError, Reason
from server.ports import Ports


def require_room(library: str, most: int, ports: Ports) -> None:
    """Raises QUOTA_EXCEEDED when the library holds so many compounds; 0 for no limit. Rows that are under way are not counted yet."""
    if not most:
        return
    with ports.database.reading() as transaction:
        held = transaction.libraries.get(library).compound_count
    if held >= most:
        raise AtomasError(
            Reason.QUOTA_EXCEEDED,
            f"Library {library} holds {held:,} compounds, which is all it may ({most:,}). Delete some, or ask for a larger quota.",
        )
