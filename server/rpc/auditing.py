"""What the audit log says of a call: the caller, the method, the libraries, the outcome, keyed hashes of what was asked."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from server.domain.errors import AtomasError, Reason
from server.observability.audit import AuditError, AuditLog, kept_key, keyed_hash, read_key
from server.rpc.access_rules import RULES
from server.settings import Settings
from server.usecases.authorise import CALLER

# Nobody was let in.
UNKNOWN_CALLER = "unknown"
# Fields that say where and how much, not what.
_PLACES = frozenset({"parent", "libraries", "library_id", "page_token", "resume_token", "read_mask", "update_mask", "request_id"})
_WHAT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
_OPERATION = re.compile(r"operations/(?:generation-)?[0-9a-f]{32}")
_LIBRARY_ID = re.compile(r"-|[a-z0-9][a-z0-9-]{0,62}")
_LIBRARY = re.compile(rf"libraries/(?:{_LIBRARY_ID.pattern})")


class Auditor:
    """Writes a record of every call. What happens when it cannot is the settings' to say."""

    def __init__(self, records: AuditLog, key: bytes, refuse: bool) -> None:
        """With `refuse` no call begins while records of former ones could not be written."""
        self._records, self._key, self._refuse = records, key, refuse

    def require_working(self) -> None:
        """Raises AUDIT_UNAVAILABLE."""
        if self._refuse:
            try:
                self._records.require_written()
            except AuditError:
                message = "The service cannot write its audit log, and answers nobody until it can. Its operator has to make room."
                raise AtomasError(Reason.AUDIT_UNAVAILABLE, message) from None

    def record(self, path: str, request: Any, context: Any, request_id: str, facts: Mapping[str, Any]) -> None:
        """One call that has ended; `facts` are method, code, reason and seconds."""
        caller = CALLER.get(None)
        libraries = list(_libraries(path, request))
        operations = [name for field in ("name", "operation") if _OPERATION.fullmatch(name := str(getattr(request, field, "")))]
        self._records.write(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request_id": request_id,
                "caller": UNKNOWN_CALLER if caller is None else caller.name,
                "over": getattr(context, "transport", "grpc"),
                **facts,
                **({"libraries": libraries} if libraries else {}),
                **({"operations": operations} if operations else {}),
                "query": dict(_hashes(request, self._key)),
            }
        )

    def close(self) -> None:
        """Nothing is written from here on."""
        self._records.close()


def open_auditor(settings: Settings) -> Auditor | None:
    """None when no audit log is wanted. Raises INVALID_ARGUMENT for a file that cannot be written and for a missing or bad key."""
    if not settings.audit_log:
        return None
    if settings.broker_url and not settings.audit_key:
        # Hashes of several servers must be comparable.
        raise AtomasError(Reason.INVALID_ARGUMENT, "Servers of a fleet share the key of their audit logs: set ATOMAS_AUDIT_KEY.")
    try:
        key = read_key(settings.audit_key) if settings.audit_key else kept_key(settings.data_dir / "audit.key")
        return Auditor(AuditLog(settings.audit_log), key, settings.audit_failure == "refuse")
    except OSError as error:
        place = error.filename or settings.audit_log
        raise AtomasError(Reason.INVALID_ARGUMENT, f"The audit log cannot be written to {place}: {error.strerror}.") from None
    except ValueError as error:
        raise AtomasError(Reason.INVALID_ARGUMENT, f"ATOMAS_AUDIT_KEY, or audit.key in the data folder, is no key: {error}.") from None


def _libraries(path: str, request: Any) -> Iterator[str]:
    """Ids of the libraries that the call names; none where they are no names."""
    rule = RULES.get(path)
    if rule is None or request is None:
        return
    try:
        # What is no id may be anything.
        yield from (library for library in dict.fromkeys(rule.libraries(request)) if _LIBRARY_ID.fullmatch(library))
    except (AtomasError, AttributeError):
        return


def _hashes(request: Any, key: bytes) -> Iterator[tuple[str, str]]:
    """A hash for each field that says what was asked. Fields that the contract gains are hashed unless they are named above."""
    if request is None:
        return
    for field, value in request.ListFields():
        if field.type not in _WHAT or field.name in _PLACES or _is_place(value):
            continue
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            yield field.name, keyed_hash(key, value)
        else:
            whole = MessageToDict(request, preserving_proto_field_name=True)[field.name]
            yield field.name, keyed_hash(key, json.dumps(whole, sort_keys=True, ensure_ascii=False))


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and (_OPERATION.fullmatch(value) or _LIBRARY.fullmatch(value)) is not None
