"""Look into a wheel and an sdist: what has to be there, and what must not.

``python tests/package/check_archives.py FILE.whl FILE.tar.gz``, as ``make package`` calls it after
twine and check-wheel-contents, which know the format but not this project. It exits non-zero when
anything differs.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "llama_index_adapters"
MOST_BYTES, MOST_BYTES_OF_A_FILE = 2_000_000, 300_000
# What somebody who has the sdist alone needs to build, test and judge it.
NEEDED = {
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "CITATION.cff",
    "PKG-INFO",
    "Makefile",
    "pyproject.toml",
    "noxfile.py",
    "constraints.txt",
    "constraints-lowest.txt",
    "docs/how-it-works.md",
    "benchmarks/README.md",
}
LEFTOVER = re.compile(
    r"__pycache__|\.py[co]$|\.ipynb_checkpoints|(^|/)\.(?!gitignore$)|\.venv|\.so$"
)
# A link that is neither an address nor a place on the same page.
RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:|#)[^)\s]+\)")


def in_tree(folder: str) -> set[str]:
    """Return the files of a folder of this checkout, as the archives name them."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not LEFTOVER.search(path.relative_to(ROOT).as_posix())
    }


def check_wheel(path: Path) -> Message:
    """The wheel holds the package as it lies in the tree, and nothing else."""
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (info,) = {name.split("/")[0] for name in wheel.namelist()} - {PACKAGE}
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
        wheel.getinfo(f"{info}/licenses/LICENSE")
        commands = wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{PACKAGE}/py.typed" in names, "py.typed is missing: type checkers would see nothing"
    assert names == in_tree(PACKAGE), names ^ in_tree(PACKAGE)
    assert f"llama-index-adapters = {PACKAGE}.cli:main" in commands, commands
    return metadata


def check_metadata(metadata: Message) -> None:
    """The index shows one version, and a description whose links lead somewhere."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / PACKAGE / "version.py").read_text())
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version, "version.py names no version"
    assert citation, "CITATION.cff names no version"
    assert metadata["Version"] == version[1] == citation[1], (metadata["Version"], citation[1])
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert len(description) > 5_000, "the README is missing"
    astray = RELATIVE_LINK.findall(description)
    assert not astray, f"links that lead nowhere on a package index: {astray}"


def check_sdist(path: Path) -> None:
    """The sdist builds and tests itself, and carries nothing large or left over."""
    assert path.stat().st_size < MOST_BYTES, f"{path.name} has {path.stat().st_size:,} bytes"
    with tarfile.open(path) as sdist:
        sizes = {file.name.split("/", 1)[1]: file.size for file in sdist if file.isfile()}
    assert not NEEDED - set(sizes), NEEDED - set(sizes)
    for folder in (PACKAGE, "tests"):
        assert not in_tree(folder) - set(sizes), in_tree(folder) - set(sizes)
    large = {name: size for name, size in sizes.items() if size > MOST_BYTES_OF_A_FILE}
    assert not large, large
    leftover = [name for name in sizes if LEFTOVER.search(name)]
    assert not leftover, leftover


def main(wheel: str, sdist: str) -> None:
    metadata = check_wheel(Path(wheel))
    check_metadata(metadata)
    check_sdist(Path(sdist))
    print(f"{metadata['Name']} {metadata['Version']}: wheel and sdist hold what they should.")


if __name__ == "__main__":
    main(*sorted(sys.argv[1:], key=lambda name: not name.endswith(".whl")))
