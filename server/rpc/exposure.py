"""Which addresses other machines reach, and what protects them there."""

import ipaddress

from server.domain.errors import AtomasError, Reason
from server.settings import Settings


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine reaches `host:port`."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_protection(settings: Settings) -> None:
    """Raises INVALID_ARGUMENT when other machines would reach the service without keys or without TLS, and nobody said that they may."""
    open_addresses = [address for address in (settings.listen, settings.http_listen) if address and not is_loopback(address)]
    missing = {
        "keys (ATOMAS_AUTH_REQUIRED)": not settings.auth_required,
        "TLS (ATOMAS_TLS_CERTIFICATE and ATOMAS_TLS_KEY)": settings.tls_certificate is None,
    }
    if open_addresses and any(missing.values()) and not settings.allow_insecure:
        raise _refusal(open_addresses[0], " and ".join(name for name, lacking in missing.items() if lacking))


def require_private_keeper(settings: Settings) -> None:
    """The structure keeper knows neither keys nor TLS: raises INVALID_ARGUMENT where other machines reach it and nobody said that they may."""
    if not is_loopback(settings.structures_listen) and not settings.allow_insecure:
        raise _refusal(settings.structures_listen, "any protection of its own")


def _refusal(address: str, missing: str) -> AtomasError:
    return AtomasError(
        Reason.INVALID_ARGUMENT,
        f"Other machines reach {address}, without {missing}. Set what is missing, listen on 127.0.0.1, or, on a network that nobody else "
        "is on, set ATOMAS_ALLOW_INSECURE=true.",
    )
