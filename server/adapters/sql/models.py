"""Model versions in SQL: which one serves, which are being filled, and what their indexes hold."""

from datetime import UTC, datetime

from sqlalchemy import delete, select, update

from server.adapters.sql.codec import AnyRow
from server.adapters.sql.session import Session
from server.adapters.sql.tables import UNREGISTERED, index_entries, model_versions
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState, ModelVersion, StoredModel

_REGISTERED = model_versions.c.state != UNREGISTERED


class SqlModels:
    """The `ModelVersions` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[StoredModel]:
        rows = self._session.connection.execute(select(model_versions).where(_REGISTERED).order_by(model_versions.c.key))
        return [_model_from(row) for row in rows]

    def get(self, version: str) -> StoredModel:
        row = self._session.connection.execute(select(model_versions).where(model_versions.c.version == version, _REGISTERED)).one_or_none()
        if row is None:
            raise AtomasError(Reason.MODEL_NOT_FOUND, f"There is no model {version!r}.", model=version)
        return _model_from(row)

    def lock(self) -> list[StoredModel]:
        self._session.require_writing()
        self._session.connection.execute(select(model_versions.c.key).order_by(model_versions.c.key).with_for_update(key_share=True))
        return self.all()

    def put(self, model: StoredModel) -> None:
        session = self._session
        values = {
            "state": model.state.value,
            "path": model.path,
            "dimension": model.model.dimension,
            "max_tokens": model.model.max_tokens,
            "fragment_dimension": model.model.fragment_dimension,
            "molecule_standard": model.model.molecule_standard,
            "fill": model.fill,
            "filled": model.filled,
            "create_time": model.create_time or session.now,
            "update_time": session.now,
            "end_time": model.end_time,
        }
        statement = session.insert(model_versions).values(version=model.version, **values)
        session.write(statement.on_conflict_do_update(index_elements=["version"], set_=values))

    def add_filled(self, version: str, fill: int, count: int) -> bool:
        chosen = (model_versions.c.version == version) & (model_versions.c.fill == fill)
        filling = model_versions.c.state == ModelState.FILLING.value
        values = {"filled": model_versions.c.filled + count, "update_time": self._session.now}
        return bool(self._session.write(update(model_versions).where(chosen, filling).values(**values)).rowcount)

    def forget_entries(self, version: str, after: int, limit: int) -> int | None:
        connection = self._session.connection
        key = connection.scalar(select(model_versions.c.key).where(model_versions.c.version == version))
        # A walk along the primary key: an index over models alone would cost more than all the removals there will ever be.
        walked = (
            select(index_entries.c.compound_key)
            .where(index_entries.c.compound_key > after)
            .order_by(index_entries.c.compound_key)
            .limit(limit)
        )
        last: int | None = max(connection.scalars(walked), default=None)
        if last is not None and key is not None:
            span = (index_entries.c.compound_key > after) & (index_entries.c.compound_key <= last)
            self._session.write(delete(index_entries).where(span, index_entries.c.model_key == key))
        return last


def _model_from(row: AnyRow) -> StoredModel:
    return StoredModel(
        model=ModelVersion(row.version, row.dimension, row.molecule_standard or "", row.max_tokens, row.fragment_dimension),
        state=ModelState(row.state),
        path=row.path or "",
        fill=row.fill,
        filled=row.filled,
        create_time=row.create_time,
        update_time=row.update_time or datetime.fromtimestamp(0, UTC),
        end_time=row.end_time,
    )
