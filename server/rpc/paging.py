"""Page sizes: a default, a maximum, and a complaint about nonsense."""

from server.domain.errors import AtomasError, Reason

MAX_PAGE_SIZE = 1_000


def page_size(asked: int, default: int) -> int:
    """The size to use; larger ones than MAX_PAGE_SIZE are lowered to it as AIP-158 says. Raises INVALID_ARGUMENT for a negative one."""
    if asked < 0:
        raise AtomasError(Reason.INVALID_ARGUMENT, f"page_size is {asked}; ask for 1 to {MAX_PAGE_SIZE}, or leave it out for {default}.")
    return min(asked or default, MAX_PAGE_SIZE)
