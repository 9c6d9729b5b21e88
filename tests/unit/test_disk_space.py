"""The guard of free disk space."""

import shutil
from pathlib import Path

import pytest

from server.adapters.disk_space import DiskSpace
from server.domain.errors import AtomasError, Reason


def test_work_is_refused_while_less_than_the_reserve_is_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(AtomasError) as raised:
        DiskSpace(tmp_path, free * 2).require_free_space()
    assert raised.value.reason is Reason.DISK_FULL
    assert str(tmp_path) in raised.value.message
    assert "free some space" in raised.value.message


def test_work_goes_on_while_the_reserve_is_free(tmp_path: Path) -> None:
    DiskSpace(tmp_path, shutil.disk_usage(tmp_path).free // 2).require_free_space()
