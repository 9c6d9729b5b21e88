"""Settings: what they make of odd values."""

import pathlib

from sqlalchemy.engine import make_url

from server.settings import Settings


def test_a_data_folder_may_have_any_name() -> None:
    folder = pathlib.Path("/tmp/50% off? #1")
    assert make_url(Settings(data_dir=folder).sql_url).database == str(folder / "atomas.sqlite3")
