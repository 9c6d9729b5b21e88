"""Every package that is pinned, and every file that others wrote, is listed with its licence."""

import subprocess
import sys
from pathlib import Path

from tests.running import ROOT


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "docs/licences.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_of_licences_is_fresh() -> None:
    checked = run("--check")
    assert checked.returncode == 0, checked.stderr


def test_every_pinned_package_is_in_the_list_and_copyleft_is_marked() -> None:
    document = (ROOT / "docs" / "licences.md").read_text()
    pinned = [line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in document.splitlines() if line.count(" | ") == 4}
    assert not set(pinned) - set(rows)
    assert rows["psycopg"][3:] == ["yes", "service |"]
    assert rows["numpy"][3] == ""


def test_vendored_scripts_are_listed() -> None:
    document = (ROOT / "docs" / "licences.md").read_text()
    minified = [path for folder in ("server", "tests", "client") for path in (ROOT / folder).rglob("*.js") if is_minified(path)]
    assert minified
    for path in minified:
        places = [str(place.relative_to(ROOT)) for place in (path, *path.parents) if place.is_relative_to(ROOT) and place != ROOT]
        assert any(f"`{place}`" in document for place in places), f"{path} is in no list of licences"


def is_minified(path: Path) -> bool:
    """As nobody writes by hand."""
    return max(map(len, path.read_text(errors="replace").splitlines()), default=0) > 1_000
