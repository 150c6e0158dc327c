from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from llama_index_adapters.errors import InvalidFileError, UnwritableFileError
from llama_index_adapters.files import atomic, temporary
from llama_index_adapters.files.atomic import (
    pending_directories,
    replace_directory,
    require_writable_directory,
    require_writable_file,
    write_text,
)

posix = pytest.mark.skipif(os.name != "posix", reason="nothing is locked on Windows")


def tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_written_as_utf8_with_its_parents(tmp_path):
    path = tmp_path / "a" / "b" / "text.json"
    write_text(path, "é 漢字\n")
    assert path.read_bytes() == "é 漢字\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["text.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "text.json"
    write_text(path, "old")

    def broken(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert tree(tmp_path) == {"text.json": "old"}


def test_a_file_keeps_its_permissions_and_a_new_one_follows_the_umask(tmp_path):
    private, new = tmp_path / "private", tmp_path / "new"
    private.write_text("old")
    private.chmod(0o600)
    write_text(private, "new")
    previous = os.umask(0o022)
    try:
        write_text(new, "new")
    finally:
        os.umask(previous)
    assert private.read_text() == "new"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.stat().st_mode) == 0o644


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_directory_is_no_file_to_write(tmp_path):
    with pytest.raises(InvalidFileError, match="is a directory; expected the name of a file"):
        write_text(tmp_path, "text")


def test_a_new_directory_appears_whole(tmp_path):
    target = tmp_path / "deep" / "adapter"
    with replace_directory(target) as new:
        (new / "sub").mkdir()
        (new / "sub" / "config.json").write_text("{}")
        assert not target.exists()
        assert new.parent == target.parent
    assert tree(tmp_path) == {"deep/adapter/sub/config.json": "{}"}


@pytest.mark.parametrize("one_step", [True, False])
def test_an_existing_directory_is_replaced_whole(tmp_path, monkeypatch, one_step):
    if not one_step:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    target = tmp_path / "adapter"
    target.mkdir(mode=0o700)
    (target / "stale").write_text("old")
    with replace_directory(target) as new:
        (new / "fresh").write_text("new")
        assert tree(target) == {"stale": "old"}
    assert tree(tmp_path) == {"adapter/fresh": "new"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_directory(tmp_path, error):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with replace_directory(target) as new:
            (new / "half").write_text("new")
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert tree(tmp_path) == {"adapter/old": "old"}


def test_a_failed_second_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def fails_for_the_new(self: Path, to: Path) -> Path:
        if self.suffix == ".tmp":
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(KeyboardInterrupt), replace_directory(target) as new:
        (new / "new").write_text("new")
    assert tree(tmp_path) == {"adapter/old": "old"}


def test_a_file_is_no_directory_to_replace(tmp_path):
    (tmp_path / "file").write_text("mine")
    blocked = replace_directory(tmp_path / "file")
    with pytest.raises(InvalidFileError, match="is a file; expected a directory"):
        blocked.__enter__()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux")
def test_on_linux_a_reader_never_misses_the_directory(tmp_path):
    target = tmp_path / "adapter"
    with replace_directory(target) as new:
        (new / "config.json").write_text("0")
    done = threading.Event()
    missed: list[str] = []

    def read() -> None:
        while not done.is_set():
            if not target.is_dir():
                missed.append("gone")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        with replace_directory(target) as new:
            (new / "config.json").write_text(str(number))
    done.set()
    reader.join()
    assert not missed
    assert tree(tmp_path) == {"adapter/config.json": "49"}


def test_a_killed_process_leaves_the_old_directory(tmp_path):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("old")
    program = (
        "import os, signal, sys\n"
        "from llama_index_adapters.files.atomic import replace_directory\n"
        "with replace_directory(sys.argv[1]) as new:\n"
        "    (new / 'half').write_text('new')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert tree(target) == {"old": "old"}


# Directories that stay where they are, with other files in them


def refuse_to_rename(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system answer as for a mount point."""
    rename = Path.rename

    def busy(self: Path, to: Path) -> Path:
        if target in (self, to):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, to)

    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", busy)


@pytest.fixture(params=["busy", "mounted", "current", "in a folder of others"])
def staying(request, tmp_path, monkeypatch) -> Path:
    """A directory that cannot be, or must not be, exchanged for another."""
    target = tmp_path / "adapter"
    (target / "folder").mkdir(parents=True)
    (target / "folder" / "other").write_text("other")
    (target / "a").write_text("old")
    (target / "stale").write_text("old")
    if request.param == "busy":
        refuse_to_rename(target, monkeypatch)
    elif request.param == "mounted":
        monkeypatch.setattr(os.path, "ismount", lambda path: path == target)
    elif request.param == "current":
        monkeypatch.chdir(target)
    else:
        mkdir = Path.mkdir

        def only_inside(self: Path, *arguments, **options) -> None:
            if self.parent == target.parent and not self.exists():
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            mkdir(self, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", only_inside)
    return target


def test_the_files_in_a_directory_that_stays_are_replaced(staying):
    inode, before = staying.stat().st_ino, tree(staying)
    require_writable_directory(staying)
    assert tree(staying) == before
    with replace_directory(staying) as new:
        (new / "a").write_text("new")
        (new / "b").write_text("new")
        assert tree(staying)["a"] == "old"
    assert tree(staying) == {"a": "new", "b": "new", "folder/other": "other"}
    assert staying.stat().st_ino == inode
    assert Path.cwd().exists()
    assert entries(staying.parent) == ["adapter"]


def test_a_failed_block_leaves_a_directory_that_stays(staying):
    before = tree(staying)

    def fail() -> None:
        with replace_directory(staying) as new:
            (new / "a").write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert tree(staying) == before


def test_a_whole_set_lies_inside_until_all_files_are_replaced(staying, monkeypatch):
    replace, seen = Path.replace, []

    def watched(self: Path, to: Path) -> Path:
        (pending,) = pending_directories(staying)
        seen.append((to.name, tree(pending)))
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", watched)
    whole = {"a": "new", "b": "new"}
    with replace_directory(staying) as new:
        for name, content in whole.items():
            (new / name).write_text(content)
    assert seen == [("a", whole), ("b", whole)]
    assert pending_directories(staying) == []


def test_what_a_kill_left_inside_goes_with_the_next_save(staying):
    here = temporary.neighbour(staying / "new", "tmp")
    (here / "a").parent.mkdir()
    (here / "a").write_text("whole")
    temporary.neighbour(staying / "a", "tmp").write_text("whole")
    linked = temporary.neighbour(staying / "new", "tmp")
    linked.symlink_to(staying / "folder")
    assert pending_directories(staying) == [here]
    with replace_directory(staying) as new:
        (new / "a").write_text("new")
    assert entries(staying) == sorted(["a", "folder", linked.name])


def test_nothing_was_written_where_nothing_can_be(tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("old")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == target)
    mkdir = Path.mkdir

    def full(self: Path, *arguments, **options) -> None:
        if self.parent == target:
            raise OSError(errno.EROFS, "Read-only file system")
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UnwritableFileError, match=r"adapter cannot be written .*Read-only"):
        require_writable_directory(target)
    with pytest.raises(OSError, match="Read-only"), replace_directory(target):
        pass
    assert tree(target) == {"old": "old"}


def test_a_read_only_directory_can_still_be_exchanged(tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    target.mkdir()
    mkdir = Path.mkdir

    def only_beside(self: Path, *arguments, **options) -> None:
        if self.parent == target:
            raise PermissionError(errno.EACCES, "Permission denied")
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", only_beside)
    require_writable_directory(target)
    with replace_directory(target) as new:
        (new / "a").write_text("new")
    assert tree(target) == {"a": "new"}


@posix
def test_as_another_user():
    """The writable directory in somebody else's folder, and the folder nobody may look into."""
    program = """
        import os, sys
        from pathlib import Path
        from llama_index_adapters.errors import UnwritableFileError
        from llama_index_adapters.files.atomic import (
            replace_directory, require_writable_directory, require_writable_file,
        )
        folder = Path(sys.argv[1])
        for name in ("mine", "closed", "read-only"):
            (folder / name).mkdir()
        if os.geteuid() == 0:
            os.chown(folder / "mine", 65534, 65534)
            os.setgid(65534), os.setuid(65534)
        else:
            (folder / "closed").chmod(0), (folder / "read-only").chmod(0o555)
            folder.chmod(0o555)
        require_writable_directory(folder / "mine")
        with replace_directory(folder / "mine") as new:
            (new / "a").write_text("new")
        print(sorted(os.listdir(folder / "mine")))
        for place in ("other", "closed/deep/adapter", "read-only"):
            for require in (require_writable_directory, require_writable_file):
                try:
                    require(folder / place)
                except (UnwritableFileError, ValueError) as error:
                    print(type(error).__name__)
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", textwrap.dedent(program), folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        Path(folder).chmod(0o755)
    assert ended.stdout.splitlines() == [
        "['a']",
        *["UnwritableFileError"] * 5,
        "InvalidFileError",  # a directory is no file to write
    ], ended.stderr


def test_a_file_that_is_mounted_by_itself_is_written_over(tmp_path, monkeypatch):
    path = tmp_path / "text.json"
    write_text(path, "the old and longer text")
    inode = path.stat().st_ino

    def busy(self: Path, to: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write_text(path, "new")
    assert tree(tmp_path) == {"text.json": "new"}
    assert path.stat().st_ino == inode


def test_places_that_cannot_be_written_are_known_before(tmp_path):
    (tmp_path / "file").write_text("mine")
    for require in (require_writable_directory, require_writable_file):
        require(tmp_path / "new" / "deep")
        with pytest.raises(InvalidFileError, match=r"file is a file, so .*deep cannot be written"):
            require(tmp_path / "file" / "deep")
        with pytest.raises(UnwritableFileError, match="/proc/new cannot be written"):
            require("/proc/new")
    with pytest.raises(InvalidFileError, match="is a file; expected a directory"):
        require_writable_directory(tmp_path / "file")
    require_writable_file(tmp_path / "file")
    with pytest.raises(InvalidFileError, match="is a folder; expected the name of a file"):
        require_writable_file(tmp_path)
    assert tree(tmp_path) == {"file": "mine"}
    assert entries(tmp_path) == ["file"]


# What a killed process leaves

STOPS = """
import os, signal, sys
from pathlib import Path
from llama_index_adapters.files import atomic
target, kind, way = sys.argv[1:]
def stop():
    print("writing", flush=True)
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
if kind == "file":
    before = atomic.os.fsync
    atomic.os.fsync = lambda descriptor: (stop(), before(descriptor)) and None
    atomic.write_text(target, "other")
else:
    with atomic.replace_directory(target) as directory:
        (directory / "half").write_text("other")
        stop()
"""


def save(target: Path, kind: str) -> None:
    if kind == "file":
        write_text(target, "mine")
    else:
        with replace_directory(target) as directory:
            (directory / "whole").write_text("mine")


@posix
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_next_save_removes_what_a_killed_process_left(tmp_path, kind):
    command = [sys.executable, "-c", STOPS, str(tmp_path / "target"), kind, "killed"]
    for _ in range(2):
        ended = subprocess.run(command, check=False, capture_output=True)
        assert ended.returncode == -signal.SIGKILL
    assert len(entries(tmp_path)) == 1  # the second removed what the first had left
    save(tmp_path / "target", kind)
    assert entries(tmp_path) == ["target"]


@posix
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_living_process_writes_stays(tmp_path, kind):
    target = tmp_path / "target"
    command = [sys.executable, "-c", STOPS, str(target), kind, "living"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == "writing\n"
        save(target, kind)
        left = [name for name in entries(tmp_path) if name.endswith(".tmp")]
        assert len(left) == 1
        living.communicate("\n" * 9)
    assert living.returncode == 0
    assert entries(tmp_path) == ["target"]
    assert (target if kind == "file" else target / "half").read_text() == "other"


@posix
def test_only_what_is_known_to_be_left_behind_is_removed(tmp_path):
    here = atomic.neighbour(tmp_path / "target", "tmp").name.split(".")[2]
    another = "0" * 8 if here != "0" * 8 else "1" * 8
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    names = {kind: f".target.{here}.0000000{number}.tmp" for number, kind in enumerate("dflp")}
    (tmp_path / names["d"]).mkdir()
    (tmp_path / names["d"] / "half").symlink_to(outside)
    (tmp_path / names["f"]).write_text("half")
    (tmp_path / names["l"]).symlink_to(outside)
    os.mkfifo(tmp_path / names["p"])
    old, recent = (f".target.{another}.0000000{number}.tmp" for number in (1, 2))
    for name in (old, recent, f".targets.{here}.00000000.tmp", ".target.tmp", "target.tmp"):
        (tmp_path / name).write_text("of others")
    os.utime(tmp_path / old, (0, 0))
    save(tmp_path / "target", "file")
    assert (outside / "kept").read_text() == "kept"
    kept = {recent, f".targets.{here}.00000000.tmp", ".target.tmp", "target.tmp", "outside"}
    assert set(entries(tmp_path)) == {"target", names["l"], names["p"], *kept}


@posix
def test_what_cannot_be_locked_stays(tmp_path, monkeypatch):
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError("no locks on this disk")

    monkeypatch.setattr(temporary.fcntl, "flock", no_locks)
    left = atomic.neighbour(tmp_path / "target", "tmp")
    left.write_text("half")
    save(tmp_path / "target", "file")
    assert entries(tmp_path) == sorted([left.name, "target"])


@posix
def test_a_place_that_is_taken_for_left_behind_at_once_is_given_up(tmp_path, monkeypatch):
    """Another process may see a neighbour before its own has locked it."""
    opened, flock, lost = os.open, temporary.fcntl.flock, []

    def open_late(path, *arguments):
        if not lost:
            lost.append(Path(path))
            atomic.remove_leftovers(tmp_path / "target")
        return opened(path, *arguments)

    monkeypatch.setattr(atomic.os, "open", open_late)
    save(tmp_path / "target", "directory")
    assert not lost[0].exists()
    assert tree(tmp_path) == {"target/whole": "mine"}
    assert flock is temporary.fcntl.flock
