"""Resource names of the contract, taken apart with clear complaints."""

from server.domain.errors import AtomasError, Reason
from server.domain.libraries import check_library_id

ANY = "-"


def library_id(name: str) -> str:
    """`libraries/chebi` -> `chebi`. Raises INVALID_NAME."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "libraries":
        raise _invalid(name, "libraries/{library}")
    return check_library_id(parts[1])


def library_id_or_any(name: str) -> str | None:
    """As `library_id`, None for `libraries/-`."""
    return None if name == f"libraries/{ANY}" else library_id(name)


def compound_ids(name: str) -> tuple[str, str]:
    """`libraries/chebi/compounds/{inchikey}` -> (library id, InChIKey). Raises INVALID_NAME."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "libraries" or parts[2] != "compounds" or not parts[3]:
        raise _invalid(name, "libraries/{library}/compounds/{InChIKey}")
    return check_library_id(parts[1]), parts[3].upper()


def compound_name(library: str, inchikey: str) -> str:
    """The inverse of `compound_ids`."""
    return f"libraries/{library}/compounds/{inchikey}"


def operation_id(name: str) -> str:
    """`operations/{id}` -> id. Raises INVALID_NAME."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "operations" or not parts[1]:
        raise _invalid(name, "operations/{operation}")
    return parts[1]


def model_id(name: str) -> str:
    """`models/{version}` -> version, `-` for the one in use. Raises INVALID_NAME."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "models" or not parts[1]:
        raise _invalid(name, "models/{model}")
    return parts[1]


def api_key_prefix(name: str) -> str:
    """`apiKeys/{prefix}` -> prefix. Raises INVALID_NAME."""
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "apiKeys" or not parts[1]:
        raise _invalid(name, "apiKeys/{api_key}")
    return parts[1]


def _invalid(name: str, pattern: str) -> AtomasError:
    return AtomasError(Reason.INVALID_NAME, f"{name[:200]!r} is not of the form {pattern}.")
