"""Whatever happened to the clone, the next pass succeeds."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import OWNER_VARIABLE, GitSettings
from reconciler.errors import Transient
from reconciler.model.revision import Landed, RefUpdate
from tests.effects.git_remotes import CONFIG, Origin, git


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin.git")
    origin.commit({"report.yaml": b"b"}, "Report", branch="status/lon1-b")
    return origin


def opened(path: Path, origin: Origin) -> GitRepository:
    repository = GitRepository(path, GitSettings(url=origin.url, timeout_s=20))
    repository.open()
    return repository


def one_pass(repository: GitRepository, origin: Origin, number: int) -> None:
    """Fetch, read everything, commit and push: all of it has to succeed at the first try."""
    refs = repository.fetch()
    assert refs.config == origin.tip()
    files = {path: repository.read_blob(entry.oid) for path, entry in repository.read_tree(refs.config).items()}
    assert files == CONFIG
    old = refs.status.get("lon1-a")
    new = repository.commit({"report.yaml": b"%d" % number}, old, f"pass {number}", author="lon1-a", when=number)
    assert repository.push([RefUpdate("lon1-a", new, old)]) == {"lon1-a": Landed()}
    assert origin.tip("status/lon1-a") == new


def loose(clone: Path, expression: str) -> Path:
    oid = git(clone, "rev-parse", expression)
    return clone / "objects" / oid[:2] / oid[2:]


def replaced(file: Path, content: bytes) -> None:
    """Put other content in a file's place (in a new file: the old one may be mapped into memory)."""
    file.unlink()
    file.write_bytes(content)


def pack(clone: Path) -> Path:
    git(clone, "repack", "-adq")
    return next((clone / "objects" / "pack").glob("*.pack"))


def truncated_pack(clone: Path) -> None:
    file = pack(clone)
    replaced(file, file.read_bytes()[:40])


def pack_without_index(clone: Path) -> None:
    pack(clone).with_suffix(".idx").unlink()


def index_without_pack(clone: Path) -> None:
    pack(clone).unlink()


def flipped_pack(clone: Path) -> None:
    file = pack(clone)
    content = bytearray(file.read_bytes())
    for position in range(20, len(content) - 20):
        content[position] ^= 0xFF
    replaced(file, bytes(content))


def other_content(clone: Path) -> None:
    replaced(loose(clone, "refs/reconciler/config^{tree}"), loose(clone, "refs/reconciler/status/lon1-b^{tree}").read_bytes())


def touched(*paths: Path) -> None:
    for path in paths:
        path.touch()


def emptied(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    path.mkdir()


def flattened(clone: Path) -> None:
    shutil.rmtree(clone)
    clone.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated pack": truncated_pack,
    "pack without index": pack_without_index,
    "index without pack": index_without_pack,
    "flipped bits in a pack": flipped_pack,
    "empty commit object": lambda clone: replaced(loose(clone, "refs/reconciler/config"), b""),
    "empty tree object": lambda clone: replaced(loose(clone, "refs/reconciler/config^{tree}"), b""),
    "empty status commit": lambda clone: replaced(loose(clone, "refs/reconciler/status/lon1-a"), b""),
    "truncated commit object": lambda clone: replaced(loose(clone, "refs/reconciler/config"), b"x\x9c\x01"),
    "missing tree object": lambda clone: loose(clone, "refs/reconciler/config^{tree}").unlink(),
    "object with other content": other_content,
    "stale index.lock": lambda clone: (clone / "index.lock").touch(),
    "stale packed-refs.lock": lambda clone: (clone / "packed-refs.lock").touch(),
    "stale lock of the config ref": lambda clone: (clone / "refs/reconciler/config.lock").touch(),
    "stale lock of a status ref": lambda clone: (clone / "refs/reconciler/status/lon1-a.lock").touch(),
    "stale lock of a pushed ref": lambda clone: (clone / "refs/reconciler/pushed/lon1-a.lock").touch(),
    "stale shallow.lock": lambda clone: (clone / "shallow.lock").touch(),
    "stale HEAD.lock, config.lock, gc.pid": lambda clone: touched(clone / "HEAD.lock", clone / "config.lock", clone / "gc.pid"),
    "made shallow": lambda clone: (clone / "shallow").write_text(git(clone, "rev-parse", "refs/reconciler/config") + "\n"),
    "HEAD missing": lambda clone: (clone / "HEAD").unlink(),
    "HEAD empty": lambda clone: (clone / "HEAD").write_bytes(b""),
    "config missing": lambda clone: (clone / "config").unlink(),
    "config garbage": lambda clone: (clone / "config").write_bytes(b"\0[[garbage\nurl"),
    "config a directory": lambda clone: emptied(clone / "config"),
    "refs missing": lambda clone: shutil.rmtree(clone / "refs"),
    "objects missing": lambda clone: shutil.rmtree(clone / "objects"),
    "empty ref": lambda clone: (clone / "refs/reconciler/config").write_bytes(b""),
    "ref to a missing object": lambda clone: (clone / "refs/reconciler/config").write_text("1" * 40 + "\n"),
    "status ref to a missing object": lambda clone: (clone / "refs/reconciler/status/lon1-b").write_text("1" * 40 + "\n"),
    "packed-refs garbage": lambda clone: (clone / "packed-refs").write_bytes(b"\0garbage\n"),
    "half-written packs": lambda clone: touched(*(clone / "objects/pack" / f"tmp_pack_{n}" for n in range(40))),
    "an empty directory": emptied,
    "gone": shutil.rmtree,
    "a file": flattened,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_clone_is_repaired_by_the_next_pass(tmp_path: Path, origin: Origin, damage: str) -> None:
    """FAULTS 4, 31, 36, 37: restarted after the damage, the very next pass succeeds and leaves nothing broken behind."""
    clone = tmp_path / "clone"
    one_pass(opened(clone, origin), origin, 1)
    DAMAGES[damage](clone)
    one_pass(opened(clone, origin), origin, 2)
    assert git(clone, "fsck", "--strict", "--full", "--no-dangling") == ""
    assert [file for file in clone.rglob("*") if "tmp_" in file.name or file.name.endswith((".lock", ".keep"))] == []
    assert {file.name for file in tmp_path.iterdir()} == {"origin.git", "clone"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_running_daemon_repairs_its_clone_without_a_restart(tmp_path: Path, origin: Origin, damage: str) -> None:
    """FAULTS 37: the pass that meets the damage may fail, as transient; the one after it succeeds."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    one_pass(repository, origin, 1)
    DAMAGES[damage](clone)
    with suppress(Transient):
        repository.read_tree(repository.fetch().config)
    one_pass(repository, origin, 2)
    assert git(clone, "fsck", "--strict", "--full", "--no-dangling") == ""


def test_locks_left_by_a_git_that_ran_out_of_time_do_not_last(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 37: not even on refs that no fetch touches."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    repository.keep("live", repository.fetch().config)
    for lock in ("refs/reconciler/seen.lock", "refs/reconciler/kept/live.lock", "packed-refs.lock"):
        (clone / lock).parent.mkdir(exist_ok=True)
        (clone / lock).touch()
        origin.commit({**CONFIG, lock: b""}, "News")
        config = repository.fetch().config
        assert config == origin.tip()
        repository.keep("live", config)
        repository.drop("live")
        assert repository.kept() == {}


def test_a_damaged_file_content_is_noticed_when_read_and_healed_by_the_next_fetch(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 37: even if every process lives for one pass alone (`--once`)."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    config = repository.fetch().config
    entry = repository.read_tree(config)["cluster.yaml"]
    replaced(loose(clone, f"{config}:cluster.yaml"), b"")
    with pytest.raises(Transient, match="the next fetch makes the clone anew"):
        repository.read_blob(entry.oid)
    one_pass(opened(clone, origin), origin, 1)


def test_kept_revisions_outlive_a_damaged_clone(tmp_path: Path, origin: Origin) -> None:
    """What is live is read at its revision, also when no branch holds it any more."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    first = repository.fetch().config
    repository.keep("on-branch", first)
    orphaned = origin.commit(CONFIG, "Rewritten away", orphan=True)
    repository.fetch()
    repository.keep("only-here", orphaned)
    gone = origin.commit({"x": b"gone"}, "Gone for good", orphan=True)
    repository.fetch()
    repository.keep("nowhere", gone)
    git(origin.path, "update-ref", "refs/heads/main", first)
    git(origin.path, "reflog", "expire", "--expire=now", "--all")
    git(origin.path, "gc", "--quiet", "--prune=now")
    replaced(loose(clone, gone), b"")
    clone.joinpath("damaged").touch()
    refs = repository.fetch()
    assert refs.lost == ("nowhere",)
    assert repository.kept() == {"on-branch": first, "only-here": orphaned}
    assert repository.read_tree(orphaned).keys() == CONFIG.keys()
    one_pass(repository, origin, 1)


def test_while_the_remote_is_away_a_damaged_clone_stays_readable(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 29, 37: nothing is thrown away before its replacement is there."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    config = repository.fetch().config
    (clone / "damaged").touch()
    away = origin.path.rename(tmp_path / "away.git")
    for reader in (repository, opened(clone, origin)):
        with pytest.raises(Transient, match="cannot fetch"):
            reader.fetch()
        assert reader.read_tree(config).keys() == CONFIG.keys()
    away.rename(origin.path)
    one_pass(repository, origin, 1)


def test_damage_on_the_remote_side_does_not_cost_the_clone(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 37: the last good state stays; the remote's own damage is reported as such."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    config = repository.fetch().config
    repository.keep("live", config)
    broken = origin.commit({"cluster.yaml": b"news\n"}, "News")
    oid = git(origin.path, "rev-parse", f"{broken}^{{tree}}")
    git(origin.path, "repack", "-adq")
    git(origin.path, "unpack-objects", "-q", check=False)
    for file in (origin.path / "objects" / "pack").glob("*.pack"):
        packed = file.read_bytes()
        for left in (origin.path / "objects" / "pack").glob("*"):
            left.unlink()
        git(origin.path, "unpack-objects", "-q", input=packed)
    replaced(origin.path / "objects" / oid[:2] / oid[2:], b"")
    for _ in range(2):
        with pytest.raises(Transient, match="cannot fetch"):
            repository.fetch()
        assert repository.kept() == {"live": config}
        assert repository.read_tree(config).keys() == CONFIG.keys()


def test_a_crash_while_the_clone_is_replaced_loses_neither(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 1: between the two renames the clone's place is empty."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    config = repository.fetch().config
    repository.keep("live", config)
    clone.rename(tmp_path / "clone.old")
    (tmp_path / "clone.new").mkdir()
    again = opened(clone, origin)
    assert again.kept() == {"live": config}
    one_pass(again, origin, 1)
    assert {file.name for file in tmp_path.iterdir()} == {"origin.git", "clone"}


def test_another_url_is_followed_without_leftovers(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 37, 42: pointed at another repository, the clone answers from that one alone."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    one_pass(repository, origin, 1)
    repository.keep("live", repository.fetch().config)
    other = Origin(tmp_path / "other.git")
    other.commit(CONFIG, "Other", orphan=True)
    moved = opened(clone, other)
    assert moved.read_file("status/lon1-a", "report.yaml") is None
    refs = moved.fetch()
    assert (refs.config, refs.status, refs.forced, refs.stale) == (other.tip(), {}, None, {})
    assert set(moved.kept()) == {"live"}
    one_pass(moved, other, 2)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, origin: Origin) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Transient, match=r"cannot use the clone at .*/file/clone"):
        opened(tmp_path / "file" / "clone", origin)


def test_an_orphan_of_a_killed_daemon_is_waited_for_and_then_ended(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 1, 30: a git process that outlived its daemon does not work in the clone beside the new daemon's."""
    clone = tmp_path / "clone"
    opened(clone, origin)
    orphan = subprocess.Popen(["sleep", "600"], env={OWNER_VARIABLE: str(clone), "PATH": os.environ["PATH"]})
    opened(clone, origin)
    assert orphan.wait(30) == -signal.SIGKILL, "it went on, and ended by itself"


@contextmanager
def locked(clone: Path) -> Iterator[None]:
    """Hold the state directory's lock, as every daemon does before it opens its clone."""
    with clone.with_suffix(".flock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def live(path: Path, url: str) -> None:
    """A daemon's life: lock, open, then passes until killed."""
    with locked(path):
        passes(path, url)


def passes(path: Path, url: str) -> None:
    repository = GitRepository(path, GitSettings(url=url))
    repository.open()
    for number in range(1000):
        old = repository.fetch().status.get("lon1-a")
        new = repository.commit({"report.yaml": b"%d" % number}, old, "pass", author="lon1-a", when=number)
        repository.push([RefUpdate("lon1-a", new, old)])


def kill_git_of(clone: Path) -> None:
    """SIGKILL what a daemon left running in its clone, but not the remote's side, which is another machine's."""
    mark = f"{OWNER_VARIABLE}={clone}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            process = Path("/proc", name)
            ours = mark in process.joinpath("environ").read_bytes().split(b"\0")
            arguments = process.joinpath("cmdline").read_bytes()
            remote_side = b"receive-pack" in arguments or b"upload-pack" in arguments or b"unpack-objects" in arguments
            if ours and not remote_side:
                os.kill(int(name), signal.SIGKILL)


@pytest.mark.slow
def test_killed_at_two_hundred_random_instants_the_next_pass_always_succeeds(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 1, 2f: the daemon alone is killed, or with everything it runs, in the midst of fetch, commit and push.

    The instants lie within what a pass takes on this machine now, so that they fall into its midst on a loaded one too.
    """
    clone = tmp_path / "clone"
    one_pass(opened(clone, origin), origin, 0)
    delays = random.Random(20_24)
    fork = multiprocessing.get_context("fork")
    advanced, takes = 0, 0.1
    for number in range(1, 201):
        before = origin.tip("status/lon1-a")
        daemon = fork.Process(target=live, args=(clone, origin.url))
        daemon.start()
        time.sleep(delays.uniform(0.05, 0.9) * takes)  # not a wait for anything: the instant of the kill
        daemon.kill()
        daemon.join(60)
        assert daemon.exitcode == -signal.SIGKILL
        if number % 2:
            kill_git_of(clone)
        with locked(clone):
            began = time.monotonic()
            one_pass(opened(clone, origin), origin, number)
            takes = time.monotonic() - began
        advanced += git(origin.path, "rev-list", "--count", f"{before}..status/lon1-a") != "1"
    print(f"\n{advanced} of 200 daemons had pushed before they were killed; the last pass took {takes:.3f} s")
    assert advanced > 20, "the daemons were killed before they did anything"
    assert git(clone, "fsck", "--strict", "--full", "--no-dangling") == ""
    assert [file for file in clone.rglob("*") if "tmp_" in file.name or file.name.endswith(".lock")] == []


def test_killed_while_the_clone_is_made_anew_the_next_pass_succeeds(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 1, 37: repair itself may be interrupted; what was kept stays kept."""
    clone = tmp_path / "clone"
    repository = opened(clone, origin)
    config = repository.fetch().config
    repository.keep("live", config)
    delays = random.Random(7)
    fork = multiprocessing.get_context("fork")
    for number in range(1, 31):
        (clone / "damaged").touch()
        daemon = fork.Process(target=live, args=(clone, origin.url))
        daemon.start()
        time.sleep(delays.uniform(0.005, 0.05))  # the instant of the kill
        daemon.kill()
        daemon.join(60)
        with locked(clone):
            again = opened(clone, origin)
            one_pass(again, origin, number)
        assert again.kept() == {"live": config}
