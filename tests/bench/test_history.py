"""How the status branches grow over 1,000 rollouts, what a fresh clone fetches then, and what compaction leaves of it."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from reconciler.engine.compaction import KEPT
from reconciler.engine.ports import Publication
from reconciler.engine.repository import Repository
from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.company.members import Company
from tests.remote import Remote

pytestmark = pytest.mark.timeout(7200)

SERVERS = 3
SERVICES = ("web", "api", "jobs", "mail", "cache")
PAUSE = 120.0
"""Seconds between two rollouts: what nobody waits for has been told by then, and old workers are gone."""


def test_the_status_branches_grow_by_a_few_kilobytes_for_a_rollout_and_are_shortened(
    git_remote: Remote, tmp_path: Path, mode: Mode, report: Callable[[Section], None]
) -> None:
    rollouts = mode.pick(100, 1000)
    section = Section(
        "History of the status branches",
        f"""{rollouts} rollouts, each of one of {len(SERVICES)} services on {SERVERS} servers: the real engine in virtual time over
        a Git host in memory, whose commits are then written into a real bare repository, as they were, object by object as small
        pushes leave them. Packed: what `git rev-list --disk-usage` says after `git gc`. Compaction: by the engine, which keeps
        {KEPT} commits at most.""",
    )
    git_remote.commit({"cluster.yaml": "servers: {}\n"}, "Config")
    stream = tmp_path / "stream"
    company = lived(rollouts, stream)
    take(git_remote, stream, tmp_path)
    texts = {ref: dict(files) for ref, (_, files) in company.host.tips.items()}
    before, fetched = sizes(git_remote), clone_bytes(git_remote, tmp_path / "before")
    shorten(git_remote, tmp_path, before)
    after, fetched_after = sizes(git_remote), clone_bytes(git_remote, tmp_path / "after")
    rows: list[list[object]] = []
    for ref, (count, size) in before.items():
        rows.append([f"`status/{ref}`", count, f"{count / rollouts:.1f}", f"{size / 1024:.0f}", f"{size / rollouts:.0f}",
                     after[ref][0], f"{after[ref][1] / 1024:.0f}"])  # fmt: skip
    section.table(
        ["branch", "commits", "per rollout", "packed, KiB", "bytes per rollout", "commits after compaction", "packed, KiB"], rows
    )
    section.say(f"{len(company.host.pushes)} pushes, {len(company.host.pushes) / rollouts:.1f} for each rollout.")
    section.say(f"Fresh clone of all of them: {fetched / 1024:.0f} KiB before, {fetched_after / 1024:.0f} KiB after compaction.")
    report(section)
    most = (2 * SERVERS + 3) * rollouts + 3 * SERVERS + 3  # the first deploy has one more for each server
    assert len(company.host.pushes) <= most, f"{len(company.host.pushes)} pushes in {rollouts} rollouts, {most} allowed"
    for ref, files in texts.items():
        assert {path: git_remote.show(f"status/{ref}", path).encode() for path in files} == files, "compaction changed what it says"


def take(remote: Remote, stream: Path, directory: Path) -> None:
    """Write the commits of a stream as loose objects, which is how a host keeps what comes in small pushes.

    `git gc` does not look for differences between two objects that are whole in one pack, as fast-import leaves most of them.
    """
    git = ("git", "-C", str(remote.path))
    with stream.open("rb") as commits:
        subprocess.run([*git, "fast-import", "--quiet"], stdin=commits, check=True)
    for pack in (remote.path / "objects" / "pack").glob("*.pack"):
        aside = pack.rename(directory / pack.name)
        pack.with_suffix(".idx").unlink()
        with aside.open("rb") as objects:
            subprocess.run([*git, "unpack-objects", "-q"], stdin=objects, check=True)


def lived(rollouts: int, stream: Path) -> Company:
    """A company that has had so many rollouts; its status commits are in `stream`, for `git fast-import`."""
    rng = random.Random(1)
    company = Company(SERVERS)
    with stream.open("wb") as out:

        def write(publication: Publication) -> None:
            message = publication.message.encode()
            out.write(f"commit refs/heads/status/{publication.ref}\n".encode())
            out.write(f"committer reconciler <{publication.ref}> {company.time.wall()} +0000\n".encode())
            out.write(b"data %d\n%s\ndeleteall\n" % (len(message), message))
            for path, data in sorted(publication.files.items()):
                out.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))

        company.host.landed = write
        versions = dict.fromkeys(SERVICES, "0")
        sha = company.commit(versions, "First")
        company.start()
        for number in range(1, rollouts + 1):
            company.run(lambda: company.done(sha), 600, "the rollout before")  # noqa: B023
            company.rest(PAUSE)
            name = rng.choice(SERVICES)
            versions[name] = str(number)
            sha = company.commit(versions, f"Bump {name} to {number}")
        company.run(lambda: company.done(sha), 600, "the last rollout")
        company.rest(PAUSE)
    return company


def sizes(remote: Remote) -> Mapping[str, tuple[int, int]]:
    """Commits and packed bytes by status branch."""
    remote.git("reflog", "expire", "--expire=now", "--all")
    remote.git("gc", "--quiet", "--prune=now")
    found = {}
    for branch in (b for b in remote.branches() if b.startswith("status/")):
        count = int(remote.git("rev-list", "--count", f"refs/heads/{branch}"))
        size = int(remote.git("rev-list", "--disk-usage", "--objects", f"refs/heads/{branch}"))
        found[branch.removeprefix("status/")] = (count, size)
    return found


def clone_bytes(remote: Remote, directory: Path) -> int:
    """What a fresh clone of the status branches receives."""
    Remote.create(directory).git("fetch", "--quiet", remote.url, "+refs/heads/status/*:refs/heads/status/*")
    return sum(file.stat().st_size for file in (directory / "objects").rglob("*") if file.is_file())


def shorten(remote: Remote, directory: Path, before: Mapping[str, tuple[int, int]]) -> None:
    """As the server named first would, if it wrote all of them."""
    repository = Repository(GitRepository(directory / "repo.git", GitSettings(url=remote.url)), "s01")
    repository.poll(frozenset(), None)
    shortened = repository.compact(sorted(before), min(count for count, _ in before.values()))
    assert set(shortened) == set(before), shortened
