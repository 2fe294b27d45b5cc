"""Fetching, reading, committing and pushing over a path, with real git on the other side."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from reconciler.effects.git import GitRepository
from reconciler.effects.git_failure import GitUnavailable
from reconciler.effects.git_settings import GitSettings
from reconciler.errors import Invalid, Stalled, Transient
from reconciler.model.revision import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    Landed,
    RefUpdate,
    Rejected,
    Unknown,
)
from tests.effects.git_remotes import CONFIG, Origin, git

REPORT = {"report.yaml": b"server: lon1-a\n"}


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin.git")


def opened(path: Path, origin: Origin | str, **settings: object) -> GitRepository:
    url = origin if isinstance(origin, str) else origin.url
    repository = GitRepository(path, GitSettings(url=url, **settings))  # type: ignore[arg-type]
    repository.open()
    return repository


@pytest.fixture
def repository(tmp_path: Path, origin: Origin) -> GitRepository:
    return opened(tmp_path / "clone", origin)


def report(repository: GitRepository, parent: str | None, text: str = "x", when: int = 1_700_000_000) -> str:
    return repository.commit({"report.yaml": text.encode()}, parent, f"lon1-a: {text}", author="lon1-a", when=when)


def test_a_fetch_brings_config_and_status_and_nothing_else(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    origin.commit({"secret": b""}, "Elsewhere", branch="feature/x")
    status = origin.commit(REPORT, "Report", branch="status/lon1-a")
    git(origin.path, "tag", "v1", "main")
    refs = repository.fetch()
    assert refs.config == origin.tip()
    assert refs.status == {"lon1-a": status}
    assert (refs.forced, refs.stale, refs.lost) == (None, {}, ())
    held = git(tmp_path / "clone", "for-each-ref", "--format=%(refname)").split()
    assert held == ["refs/reconciler/config", "refs/reconciler/seen", "refs/reconciler/status/lon1-a"]


def test_a_deleted_status_branch_is_gone_after_the_next_fetch(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 35."""
    origin.commit(REPORT, "Report", branch="status/lon1-b")
    assert set(repository.fetch().status) == {"lon1-b"}
    git(origin.path, "update-ref", "-d", "refs/heads/status/lon1-b")
    assert repository.fetch().status == {}


def test_a_rewritten_config_branch_is_reported_once_with_both_ends(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 34: followed as data; the decision is elsewhere."""
    old = repository.fetch().config
    new = origin.commit({"cluster.yaml": b"other: {}\n"}, "Rewritten", orphan=True)
    refs = repository.fetch()
    assert refs.config == new
    assert refs.forced is not None
    assert (refs.forced.old, refs.forced.new) == (old, new)
    assert repository.read_tree(new).keys() == {"cluster.yaml"}
    assert repository.fetch().forced is None


def test_a_config_branch_set_back_is_reported_and_going_on_is_not(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 34."""
    first = repository.fetch().config
    second = origin.commit({"cluster.yaml": b"a: 1\n"}, "Second")
    assert repository.fetch().forced is None
    git(origin.path, "update-ref", "refs/heads/main", first)
    forced = repository.fetch().forced
    assert forced is not None
    assert (forced.old, forced.new) == (second, first)


def test_a_kept_revision_outlives_rewriting_and_garbage_collection(
    repository: GitRepository, origin: Origin, tmp_path: Path
) -> None:
    old = repository.fetch().config
    repository.keep("shop/prod/web", old)
    origin.commit({"cluster.yaml": b"other: {}\n"}, "Rewritten", orphan=True)
    repository.fetch()
    git(tmp_path / "clone", "gc", "--quiet", "--prune=now")
    repository.open()
    assert repository.kept() == {"shop/prod/web": old}
    assert repository.read_tree(old).keys() == CONFIG.keys()
    repository.drop("shop/prod/web")
    assert repository.kept() == {}
    with pytest.raises(Transient, match="not in the clone"):
        repository.keep("a", "1" * 40)


def test_a_missing_branch_is_named_with_what_to_do(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 41: a renamed or deleted config branch is an error, never an empty config."""
    with pytest.raises(GitUnavailable, match="branch does not exist; push it") as error:
        opened(tmp_path / "c", origin, branch="nope").fetch()
    assert error.value.reason == "BranchMissing"


def test_reading_follows_no_link_and_needs_no_work_tree(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    """FAULTS 49: symlinks (a file, a directory in the middle, a loop), submodules, filters and LFS pointers are inert."""
    origin.commit(
        {
            "cluster.yaml": (MODE_SYMLINK, b"/etc/passwd"),
            "projects/shop/prod.yaml": b"x",
            "projects/shop/run": (MODE_EXECUTABLE, b"#!"),
            "projects/loop": (MODE_SYMLINK, b"."),
            "projects/etc": (MODE_SYMLINK, b"/etc"),
            "projects/sub": (MODE_SUBMODULE, b"1" * 40),
            ".gitattributes": b"* filter=lfs\n",
            ".gitmodules": b'[submodule "x"]\npath=projects/sub\nurl=ext::sh -c "touch /tmp/bad"\n',
        },
        "Traps",
    )
    tree = repository.read_tree(repository.fetch().config)
    assert {path: entry.mode for path, entry in tree.items()} == {
        "cluster.yaml": MODE_SYMLINK,
        "projects/etc": MODE_SYMLINK,
        "projects/loop": MODE_SYMLINK,
        "projects/shop/prod.yaml": MODE_FILE,
        "projects/shop/run": MODE_EXECUTABLE,
        "projects/sub": MODE_SUBMODULE,
    }
    assert [path for path, entry in tree.items() if entry.is_file] == ["projects/shop/prod.yaml", "projects/shop/run"]
    assert repository.read_file("config", "cluster.yaml") is None
    assert repository.read_file("config", "projects/etc/passwd") is None
    assert not (tmp_path / "clone" / "projects").exists()
    assert not (tmp_path / "clone" / "index").exists()


def test_a_directory_replaced_by_a_symlink_is_an_entry(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 49, the directory in the middle."""
    origin.commit({"cluster.yaml": b"", "projects": (MODE_SYMLINK, b"/etc")}, "Trap")
    assert repository.read_tree(repository.fetch().config)["projects"].mode == MODE_SYMLINK


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT", b"a\nb", b"a\x1b[2J", b"\xff\xfe", b"a\\b", b"x\xe2\x80\xaey"])
def test_odd_names_are_refused_by_name(repository: GitRepository, origin: Origin, name: bytes) -> None:
    """FAULTS 50: what git lets pass and no config needs."""
    blob = git(origin.path, "hash-object", "-w", "--stdin", input=b"x")
    inner = raw_tree(origin, b"100644 " + name + b"\0" + bytes.fromhex(blob))
    root = raw_tree(origin, b"40000 projects\0" + bytes.fromhex(inner))
    sha = git(origin.path, "-c", "user.name=x", "-c", "user.email=x", "commit-tree", root, "-m", "Odd")
    git(origin.path, "update-ref", "refs/heads/main", sha)
    with pytest.raises(Invalid, match=r"projects/.*rename it") as invalid:
        repository.read_tree(repository.fetch().config)
    assert str(invalid.value).isprintable()


def raw_tree(origin: Origin, content: bytes) -> str:
    return git(origin.path, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", input=content)


def test_a_tree_that_multiplies_itself_is_refused_quickly(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 44, 48: ten directories in ten directories, nine levels deep, from a kilobyte."""
    oid = git(origin.path, "hash-object", "-w", "--stdin", input=b"x")
    mode = b"100644"
    for _ in range(9):
        oid = raw_tree(origin, b"".join(mode + b" %d\0" % n + bytes.fromhex(oid) for n in range(10)))
        mode = b"40000"
    root = raw_tree(origin, b"40000 projects\0" + bytes.fromhex(oid))
    sha = git(origin.path, "-c", "user.name=x", "-c", "user.email=x", "commit-tree", root, "-m", "Bomb")
    git(origin.path, "update-ref", "refs/heads/main", sha)
    revision = repository.fetch().config
    with pytest.raises(Stalled, match="more than 20000 files"):
        repository.read_tree(revision)  # a thousand million files would take until the time limit of this test


def test_a_large_file_is_listed_and_not_read(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 48."""
    origin.commit({"cluster.yaml": b"x" * 5_000_000}, "Large")
    entry = repository.read_tree(repository.fetch().config)["cluster.yaml"]
    assert entry.size == 5_000_000
    with pytest.raises(Stalled, match="5000000 bytes; at most 4194304"):
        repository.read_blob(entry.oid)
    assert repository.read_blob(entry.oid, limit=5_000_000) == b"x" * 5_000_000


def test_history_is_read_with_messages_and_trailers(repository: GitRepository, origin: Origin) -> None:
    first = origin.tip()
    second = origin.commit({**CONFIG, "projects/shop/prod.yaml": b"b"}, "Bump\x1b web\n\nLong.\n\nGeneration: 4\n")
    side = origin.commit({**CONFIG, "projects/a/b.yaml": b"b"}, "Side", branch="side", parent=first or "")
    merge = git(origin.path, "-c", "user.name=M", "-c", "user.email=m", "commit-tree", f"{second}^{{tree}}",
                "-p", second, "-p", side, "-m", "Merge")  # fmt: skip
    git(origin.path, "update-ref", "refs/heads/main", merge)
    refs = repository.fetch()
    log = repository.log("config", 10)
    assert [log[0].sha, log[-1].sha] == [merge, first]
    assert {info.sha for info in log} == {first, second, side, merge}
    assert repository.log("config", 1) == [repository.commit_info(refs.config)]
    bump = repository.commit_info(second)
    assert bump.subject == "Bump? web"
    assert bump.message.endswith("Generation: 4\n")
    assert (bump.author_name, bump.parents) == ("Ann", (first,))
    assert bump.when_iso.endswith("+02:00")
    assert repository.log("status/nobody", 3) == []
    assert first is not None
    assert repository.changed_between(first, second) == {"projects/shop/prod.yaml"}
    assert repository.is_ancestor(first, merge)
    assert repository.is_ancestor(side, merge)
    assert not repository.is_ancestor(merge, first)
    assert not repository.is_ancestor("1" * 40, merge)
    with pytest.raises(Transient, match="not in the clone"):
        repository.is_ancestor(first, "1" * 40)


def test_a_commit_is_what_git_itself_would_have_made(repository: GitRepository, tmp_path: Path) -> None:
    """Objects written in this process pass git's strictest check; git names and sorts them the same way."""
    repository.fetch()
    files = {"report.yaml": b"a\0\xff", "a/b": b"1", "a.b": b"2", "a/c/d": b"", "ab": b"\n" * 100_000, "ä": b"3"}
    root = repository.commit(files, None, "First\n\nServer: lon1-a", author="lon1-a", when=1_700_000_000)
    again = repository.commit(files, None, "First\n\nServer: lon1-a", author="lon1-a", when=1_700_000_000)
    child = repository.commit(REPORT, root, "Zweiter: grün", author="lon1-a", when=1_700_000_001)
    assert root == again
    clone = tmp_path / "clone"
    assert git(clone, "fsck", "--strict", "--full", "--no-dangling", root, child) == ""
    assert git(clone, "log", "--format=%H %P|%an <%ae> %at|%cn <%ce>|%s", child).splitlines() == [
        f"{child} {root}|reconciler <lon1-a> 1700000001|reconciler <lon1-a>|Zweiter: grün",
        f"{root} |reconciler <lon1-a> 1700000000|reconciler <lon1-a>|First",
    ]
    listed = git(clone, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", root).splitlines()
    assert sorted(listed) == sorted(files)
    assert git(clone, "mktree", input=(git(clone, "ls-tree", root) + "\n").encode()) == git(clone, "rev-parse", f"{root}^{{tree}}")
    for path, content in files.items():
        assert repository.read_file(root, path) == content
    for path in ("../x", "", "a//b", ".git/config", "a/"):
        with pytest.raises(ValueError, match="path in Git"):
            repository.commit({path: b""}, None, "x", author="a", when=0)


def test_a_push_creates_then_moves_and_the_others_see_it(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    repository.fetch()
    first = report(repository, None)
    assert repository.push([RefUpdate("lon1-a", first, None)]) == {"lon1-a": Landed()}
    second = report(repository, first, "y")
    third = repository.commit({"cluster.yaml": b"g: 1"}, None, "cluster", author="lon1-a", when=1)
    results = repository.push([RefUpdate("lon1-a", second, first), RefUpdate("cluster", third, None)])
    assert results == {"lon1-a": Landed(), "cluster": Landed()}
    assert repository.read_file("status/lon1-a", "report.yaml") == b"y"
    other = opened(tmp_path / "other", origin)
    assert other.fetch().status == {"lon1-a": second, "cluster": third}
    assert repository.push([]) == {}


def test_each_ref_of_a_push_has_its_own_result(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 32: one that lost its race does not hold back the others."""
    repository.fetch()
    theirs = origin.commit({"cluster.yaml": b"theirs"}, "Decided", branch="status/cluster")
    mine = repository.commit({"cluster.yaml": b"mine"}, None, "Mine", author="lon1-a", when=1)
    own = report(repository, None)
    results = repository.push([RefUpdate("cluster", mine, None), RefUpdate("lon1-a", own, None)])
    assert results == {"cluster": Rejected(theirs), "lon1-a": Landed()}
    assert origin.tip("status/cluster") == theirs
    assert repository.read_file("status/cluster", "cluster.yaml") == b"theirs"


def test_a_rewound_or_deleted_branch_is_not_overwritten_unseen(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 35: a plain push would undo or resurrect; ours is refused and the state is reported as stale until accepted."""
    repository.fetch()
    first = report(repository, None)
    second = report(repository, first, "y")
    third = report(repository, second, "z")
    repository.push([RefUpdate("lon1-a", first, None)])
    repository.push([RefUpdate("lon1-a", second, first)])

    git(origin.path, "update-ref", "refs/heads/status/lon1-a", first)
    assert isinstance(repository.push([RefUpdate("lon1-a", third, second)])["lon1-a"], Unknown)
    assert origin.tip("status/lon1-a") == first
    stale = repository.fetch().stale["lon1-a"]
    assert (stale.ours, stale.found, stale.behind) == (second, first, True)

    git(origin.path, "update-ref", "-d", "refs/heads/status/lon1-a")
    assert repository.push([RefUpdate("lon1-a", third, second)]) == {"lon1-a": Rejected(None)}
    assert origin.tip("status/lon1-a") is None
    assert repository.fetch().stale["lon1-a"].found is None

    garbage = origin.commit({"x": b"garbage"}, "Garbage", branch="status/lon1-a")
    assert repository.push([RefUpdate("lon1-a", third, second)]) == {"lon1-a": Rejected(garbage)}
    assert not repository.fetch().stale["lon1-a"].behind
    repository.accept("lon1-a")
    assert repository.fetch().stale == {}
    healed = report(repository, garbage, "healed")
    assert repository.push([RefUpdate("lon1-a", healed, garbage)]) == {"lon1-a": Landed()}
    assert git(origin.path, "ls-tree", "--name-only", healed) == "report.yaml"


def test_an_older_answer_after_a_push_is_marked_over_restarts(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    """FAULTS 38: a replica that lags behind our own push is never taken for news, by this process or the next."""
    repository.fetch()
    first = report(repository, None)
    second = report(repository, first, "y")
    repository.push([RefUpdate("lon1-a", first, None)])
    replica = tmp_path / "replica.git"
    subprocess.run(["cp", "-r", origin.path, replica], check=True)
    repository.push([RefUpdate("lon1-a", second, first)])
    current = tmp_path / "current.git"
    origin.path.rename(current)
    replica.rename(origin.path)
    later = opened(tmp_path / "clone", origin)
    for reader in (repository, later):
        refs = reader.fetch()
        assert refs.status["lon1-a"] == first
        assert refs.stale["lon1-a"].behind
    origin.path.rename(replica)
    current.rename(origin.path)
    assert later.fetch().stale == {}


def test_only_a_child_of_what_was_read_may_be_pushed(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 35, 42: a lease alone would accept unrelated history."""
    config = repository.fetch().config
    first = report(repository, None)
    repository.push([RefUpdate("lon1-a", first, None)])
    unrelated = report(repository, None, "unrelated")
    with pytest.raises(ValueError, match="expected"):
        repository.push([RefUpdate("lon1-a", unrelated, first)])
    with pytest.raises(ValueError, match="expected None"):
        repository.push([RefUpdate("lon1-b", report(repository, first), None)])
    for name in ("", "../main", "-x", "a b", "x.lock", "a//b", "+a", "a:refs/heads/main"):
        with pytest.raises(ValueError, match="name of a ref"):
            repository.push([RefUpdate(name, first, None)])
    assert origin.tip() == config
    assert repository.push([RefUpdate("lon1-a", unrelated, first, compacts=True)]) == {"lon1-a": Landed()}
    assert origin.tip("status/lon1-a") == unrelated


def test_a_refused_push_is_unknown_until_history_tells(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 33: the words of the refusal decide nothing; the same push may be repeated."""
    repository.fetch()
    first = report(repository, None)
    hook = origin.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho stop: not today >&2\nexit 1\n")
    hook.chmod(0o755)
    outcome = repository.push([RefUpdate("lon1-a", first, None)])["lon1-a"]
    assert isinstance(outcome, Unknown)
    assert "push to file://" in outcome.reason
    hook.unlink()
    assert repository.push([RefUpdate("lon1-a", first, None)]) == {"lon1-a": Landed()}


def test_a_push_repeated_after_others_built_on_it_has_landed(repository: GitRepository, origin: Origin) -> None:
    """FAULTS 33: contained in the tip means applied, whoever moved the tip since."""
    repository.fetch()
    first = repository.commit({"cluster.yaml": b"1"}, None, "one", author="lon1-a", when=1)
    repository.push([RefUpdate("cluster", first, None)])
    tip = origin.commit({"cluster.yaml": b"2"}, "two", branch="status/cluster")
    assert repository.push([RefUpdate("cluster", first, None)]) == {"cluster": Landed()}
    assert origin.tip("status/cluster") == tip
    assert repository.fetch().status["cluster"] == tip


def test_of_two_servers_that_decide_at_once_exactly_one_wins_each_round(tmp_path: Path, origin: Origin) -> None:
    """FAULTS 32: fifty races for the shared ref."""
    servers = [opened(tmp_path / name, origin) for name in ("a", "b")]
    tip: str | None = None
    for number in range(50):
        start = threading.Barrier(2)
        outcomes: dict[int, object] = {}
        commits = [
            server.commit({"cluster.yaml": b"%d" % number}, tip, f"s{index} {number}", author=f"s{index}", when=number)
            for index, server in enumerate(servers)
            if server.fetch()
        ]

        def decide(index: int, tip: str | None = tip, commits: list[str] = commits, start: threading.Barrier = start) -> None:
            start.wait(60)
            outcomes[index] = servers[index].push([RefUpdate("cluster", commits[index], tip)])["cluster"]  # noqa: B023

        threads = [threading.Thread(target=decide, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [index for index in range(2) if outcomes[index] == Landed()]
        assert len(winners) == 1, outcomes
        tip = commits[winners[0]]
        assert origin.tip("status/cluster") == tip
        # the loser is told the winner's commit; Unknown only if it looked while the winner's push was not visible yet
        assert outcomes[1 - winners[0]] == Rejected(tip) or isinstance(outcomes[1 - winners[0]], Unknown)
    assert git(origin.path, "rev-list", "--count", "status/cluster") == "50"


def test_status_may_live_in_another_repository(tmp_path: Path, origin: Origin) -> None:
    other = Origin(tmp_path / "status.git")
    repository = opened(tmp_path / "c", origin, status_url=other.url)
    origin.commit(REPORT, "Not this", branch="status/lon1-z")
    assert repository.fetch().status == {}
    first = report(repository, None)
    assert repository.push([RefUpdate("lon1-a", first, None)]) == {"lon1-a": Landed()}
    assert other.tip("status/lon1-a") == first
    assert origin.tip("status/lon1-a") is None
    assert repository.fetch().status == {"lon1-a": first}


def test_without_status_only_the_config_is_fetched(tmp_path: Path, origin: Origin) -> None:
    origin.commit(REPORT, "Report", branch="status/lon1-a")
    assert opened(tmp_path / "c", origin, status=False).fetch().status == {}


@pytest.mark.parametrize("url", ["git@host:shop/config.git", "git@host:/srv/git/config.git", "host:config.git", "ssh://git@host/x"])
def test_urls_as_git_clone_takes_them_are_taken(url: str) -> None:
    assert GitSettings(url=url).config_remote().url == url


@pytest.mark.parametrize(
    "url",
    ["--upload-pack=touch /tmp/bad", "ext::sh -c 'touch /tmp/bad'", "-x", "https://-oProxyCommand=x/y", "ftp://host/x",
     "file://", "host:-x\nurl = y", "ssh://u:pw@host/x", "fd::17", "relative/path", "",
     "https:/host/x", "git@host://x", "git@host::x", "git@-oProxyCommand=x:y"],
)  # fmt: skip
def test_urls_that_are_commands_or_options_are_refused(url: str) -> None:
    """FAULTS 53."""
    with pytest.raises(Stalled) as error:
        GitSettings(url=url)
    assert ":pw" not in str(error.value)


@pytest.mark.parametrize("branch", ["--all", "a..b", "x.lock", "a b", "", "/a", "a/", "a:b", "status/x"])
def test_branches_that_are_options_or_status_are_refused(branch: str) -> None:
    """FAULTS 53."""
    with pytest.raises(Stalled):
        GitSettings(url="https://host/x", branch=branch)


def test_a_repository_of_another_user_is_used_as_told(tmp_path: Path, origin: Origin) -> None:
    """A clone whose owner changed (an image restored, a daemon moved to another user) is no dead end."""
    repository = opened(tmp_path / "c", origin)
    repository.fetch()
    subprocess.run(["chown", "-R", "12345:12345", tmp_path / "c"], check=True)
    assert repository.fetch().config == origin.tip()
    subprocess.run(["chown", "-R", "12345:12345", origin.path], check=True)
    with pytest.raises(GitUnavailable, match="belongs to another user; give it to this one"):
        repository.fetch()


def test_the_machine_and_user_configuration_of_git_have_no_say(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 53: neither environment nor configuration files redirect, hook or trace a command."""
    trap = tmp_path / "gitconfig"
    trap.write_text(f'[url "file:///nowhere/"]\n\tinsteadOf = {origin.url}\n[core]\n\thooksPath = {tmp_path}/hooks\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(trap))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
    assert opened(tmp_path / "c", origin).fetch().config == origin.tip()
    assert not (tmp_path / "trace").exists()


def test_many_small_fetches_and_commits_do_not_pile_up(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    """FAULTS 31: the clone is packed by us, now and then; nothing that is needed goes."""
    repository.fetch()
    tip = None
    for number in range(1100):
        tip = report(repository, tip, str(number))
    assert tip is not None
    git(tmp_path / "clone", "push", "--quiet", origin.url, f"{tip}:refs/heads/status/lon1-a")
    unpushed = report(repository, tip, "not pushed yet")
    repository.fetch()
    loose = list((tmp_path / "clone" / "objects").glob("[0-9a-f][0-9a-f]/*"))
    assert len(loose) < 100
    assert repository.push([RefUpdate("lon1-a", unpushed, tip)]) == {"lon1-a": Landed()}
    assert len(repository.log("status/lon1-a", 2000)) == 1101


def test_removed_packs_are_let_go_of(repository: GitRepository, origin: Origin, tmp_path: Path) -> None:
    """A daemon that lives for months does not run out of file handles or disk."""
    for number in range(4):
        origin.commit({**CONFIG, **{f"projects/p{number}/{n}.yaml": b"%d" % n for n in range(120)}}, "More")
        tree = repository.read_tree(repository.fetch().config)
        assert len([repository.read_blob(entry.oid) for entry in tree.values()]) == 122
    held = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert held
    git(tmp_path / "clone", "gc", "--quiet", "--prune=now")
    assert repository.read_tree(repository.fetch().config) == tree
    held = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert [line for line in held if "(deleted)" in line] == []
