"""Writes the README's tree from the files' own docstrings: `python docs/tree.py`, or `--check` to compare."""

import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FOLDERS = ("proto", "client", "encoder", "server", "workers", "migrations", "deploy", "benchmarks", "data", "docs")
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->\n"


def main() -> None:
    """Renews the README, or fails when it is stale."""
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    fresh = head + BEGIN + tree() + END + rest.partition(END)[2]
    if "--check" in sys.argv:
        if fresh != text:
            raise SystemExit("The README's tree is stale. Run: python docs/tree.py")
        return
    README.write_text(fresh, encoding="utf-8")


def tree() -> str:
    """One line per file that says something of itself, folder by folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = []
    for name in sorted(set(listed.stdout.split()), key=lambda name: (FOLDERS.index(name.split("/")[0]), name)):
        said = sentence(ROOT / name)
        if said and "/v1/" not in name.removeprefix("proto/atomas"):
            lines.append(f"{name:<44} {said}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def sentence(path: pathlib.Path) -> str:
    """What a file says of itself in its first line: a docstring, a comment of a contract or script; empty for others."""
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return said.split("\n")[0].rstrip(".")
    if path.suffix == ".proto":
        found = re.search(r"^// (.*?)\.?$", path.read_text(encoding="utf-8"), re.MULTILINE)
        return found.group(1) if found else ""
    if path.suffix == ".sh":
        return path.read_text(encoding="utf-8").split("\n")[1].removeprefix("# ").rstrip(".")
    return ""


if __name__ == "__main__":
    main()
