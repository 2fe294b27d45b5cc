"""Remotes over http and ssh that refuse, hang, lie and lose answers; and tokens that nobody sees."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.effects.git import GitRepository
from reconciler.effects.git_failure import GitUnavailable
from reconciler.effects.git_settings import OWNER_VARIABLE, GitSettings
from reconciler.errors import Transient
from reconciler.model.revision import Landed, RefUpdate, Unknown
from tests.effects.git_remotes import CONFIG, HttpRemote, Origin, SshRemote, command_lines
from tests.waiting import eventually

TOKEN = "glpat-c4n4ry-t0ken"
IMPATIENT = (1.5, 6.0, 24.0)
"""Seconds for a remote that hangs on purpose: the next one counts where this machine took too long to get that far."""


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "srv" / "origin.git")


@pytest.fixture
def http(origin: Origin) -> Iterator[HttpRemote]:
    with HttpRemote(origin.path.parent, TOKEN) as remote:
        yield remote


@pytest.fixture
def ssh(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[SshRemote]:
    with SshRemote(tmp_path / "ssh", free_port()) as remote:
        yield remote


def opened(path: Path, url: str, **settings: object) -> GitRepository:
    repository = GitRepository(path, GitSettings(url=url, **settings))  # type: ignore[arg-type]
    repository.open()
    return repository


def over_http(tmp_path: Path, http: HttpRemote, *, token: str = TOKEN, timeout_s: float = 60) -> GitRepository:
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    url = f"http://127.0.0.1:{http.port}/origin.git"
    return opened(tmp_path / "clone", url, token_file=file, timeout_s=timeout_s, clone_timeout_s=timeout_s)


def pushed(repository: GitRepository, parent: str | None, text: str = "x") -> tuple[str, object]:
    new = repository.commit({"report.yaml": text.encode()}, parent, text, author="lon1-a", when=1)
    return new, repository.push([RefUpdate("lon1-a", new, parent)])["lon1-a"]


def no_git_is_left(clone: Path) -> bool:
    mark = f"{OWNER_VARIABLE}={clone}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(name) != os.getpid() and mark in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                return False
        except OSError:
            continue
    return True


def wait_until_no_git_is_left(clone: Path) -> None:
    eventually(lambda: no_git_is_left(clone), 30, "no git process to be left")


def lies_in(directory: Path, secret: str) -> bool:
    """Whether any file has it. Not by grep: tests that run beside this one look at the arguments of every process."""
    return any(secret.encode() in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_a_token_opens_the_way_and_is_seen_nowhere(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 55: not in any argument while commands run, nor in the clone, a result or a representation."""
    repository = over_http(tmp_path, http)
    refs = repository.fetch()
    new, outcome = pushed(repository, None)
    assert (refs.config, outcome, origin.tip("status/lon1-a")) == (origin.tip(), Landed(), new)
    running = "\n".join(http.seen_commands)
    assert "git-remote-http" in running or "remote-http" in running
    encoded = repository._settings.config_remote().secrets[1]
    for secret in (TOKEN, encoded):
        assert secret not in running
        assert not lies_in(tmp_path / "clone", secret)
        assert secret not in repr(repository._settings) + repr(repository._settings.config_remote())


def test_a_token_in_the_url_is_taken_out_of_it(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 55: people paste such URLs; it works, and the token still shows nowhere."""
    url = f"http://ci:{TOKEN}@127.0.0.1:{http.port}/origin.git"
    repository = opened(tmp_path / "clone", url)
    assert repository.fetch().config == origin.tip()
    http.status = 500
    with pytest.raises(GitUnavailable) as error:
        repository.fetch()
    assert TOKEN not in "\n".join(http.seen_commands) + str(error.value) + repr(GitSettings(url=url))
    assert not lies_in(tmp_path / "clone", TOKEN)


def test_the_search_for_a_secret_finds_one(tmp_path: Path) -> None:
    """The check above can fail."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "config").write_text(f"url = http://ci:{TOKEN}@host/x")
    assert lies_in(tmp_path, TOKEN)


def test_a_fetch_that_finds_nothing_new_ends_after_the_listing_of_refs(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """Two requests, what the host can do and its refs, for the config and all status branches together."""
    origin.commit({"report.yaml": b"b"}, "Report", branch="status/lon1-b")
    repository = over_http(tmp_path, http)
    repository.fetch()
    http.requests = 0
    for count in range(1, 4):
        repository.fetch()
        assert http.requests == 2 * count


def test_a_rotated_token_is_used_without_a_restart(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 29: 401 until the new token is in its file."""
    repository = over_http(tmp_path, http)
    repository.fetch()
    http.token = "another"
    with pytest.raises(GitUnavailable, match="renew the token") as error:
        repository.fetch()
    assert error.value.reason == "AuthenticationFailed"
    assert TOKEN not in str(error.value)
    (tmp_path / "token").write_text("another")
    assert repository.fetch().config == origin.tip()
    (tmp_path / "token").unlink()
    with pytest.raises(Transient, match=r"token file .* cannot be read"):
        repository.fetch()


def test_status_may_have_a_repository_and_a_token_of_its_own(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """The credential of the config can be read-only: neither is sent to the other's repository."""
    status = Origin(tmp_path / "status" / "origin.git")
    other = HttpRemote(status.path.parent, "status-t0ken")
    try:
        (tmp_path / "config-token").write_text(TOKEN)
        (tmp_path / "status-token").write_text("status-t0ken")
        repository = opened(
            tmp_path / "clone",
            f"http://127.0.0.1:{http.port}/origin.git",
            token_file=tmp_path / "config-token",
            status_url=f"http://127.0.0.1:{other.port}/origin.git",
            status_token_file=tmp_path / "status-token",
        )
        assert repository.fetch().config == origin.tip()
        new, outcome = pushed(repository, None)
        assert (outcome, status.tip("status/lon1-a"), origin.tip("status/lon1-a")) == (Landed(), new, None)
        assert repository.fetch().status == {"lon1-a": new}
    finally:
        other.close()


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (401, "AuthenticationFailed", "renew the token"),
        (403, "Forbidden", "give it the right"),
        (404, "NotFound", "check the URL"),
        (429, "RateLimited", "poll or push less"),
        (500, "RemoteError", "the host fails"),
        (503, "RemoteError", "the host fails"),
    ],
)
def test_what_the_host_refuses_is_said_in_a_line_and_passes(
    tmp_path: Path, http: HttpRemote, origin: Origin, status: int, reason: str, advice: str
) -> None:
    """FAULTS 29: the last good state stays readable, the next fetch after the fault succeeds."""
    repository = over_http(tmp_path, http)
    config = repository.fetch().config
    http.status, http.requests = status, 0
    with pytest.raises(GitUnavailable, match=advice) as error:
        repository.fetch()
    assert http.requests == 1, "trying again is not this layer's business"
    assert error.value.reason == reason
    assert "\n" not in str(error.value)
    assert f"http://127.0.0.1:{http.port}/origin.git" in str(error.value)
    assert (error.value.retry_after is not None) == (status == 429)
    assert repository.read_tree(config).keys() == CONFIG.keys()
    http.status = None
    assert repository.fetch().config == config


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://no-such-host.invalid/x.git", "NameResolution"),
        ("http://127.0.0.1:9/x.git", "Unreachable"),
        ("https://127.0.0.1:{port}/origin.git", "TlsFailed"),
        ("file:///nowhere/at/all.git", "NotFound"),
        ("ssh://git@127.0.0.1:9/x.git", "Unreachable"),
        ("ssh://git@no-such-host.invalid/x.git", "NameResolution"),
    ],
)
def test_unusable_remotes_are_classified(tmp_path: Path, http: HttpRemote, url: str, reason: str) -> None:
    """FAULTS 29."""
    repository = opened(tmp_path / "c", url.format(port=http.port), timeout_s=90, clone_timeout_s=90, known_hosts=tmp_path / "k")
    with pytest.raises(GitUnavailable) as error:
        repository.fetch()
    assert error.value.reason == reason, str(error.value)


def test_a_remote_that_hangs_in_mid_pack_holds_nothing_up_and_leaves_nothing(
    tmp_path: Path, http: HttpRemote, origin: Origin
) -> None:
    """FAULTS 30, 31: every attempt ends in time, with its whole process group; half packs do not pile up."""
    many = {f"file{number}": b"%d" % number for number in range(150)}  # enough for git to keep the pack as it comes
    origin.commit({**CONFIG, **many, "large": os.urandom(3_000_000)}, "Large")
    http.hang = "upload-pack"
    for seconds in IMPATIENT:
        before = http.hung
        repository = over_http(tmp_path, http, timeout_s=seconds)
        for _ in range(2):
            with pytest.raises(GitUnavailable, match="does not answer in time") as error:
                repository.fetch()
            assert error.value.reason == "TimedOut"
            wait_until_no_git_is_left(tmp_path / "clone")
            assert list((tmp_path / "clone" / "objects" / "pack").iterdir()) == []
        if http.hung == before + 2:
            break
    assert http.hung >= before + 2, "it never got as far as the pack"
    http.hang = None
    eventually(lambda: repository.fetch().config == origin.tip(), 60, "its next fetch to succeed")


def test_a_remote_that_accepts_and_says_nothing_is_left_in_time(tmp_path: Path) -> None:
    """FAULTS 30: over http and over ssh."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for number, scheme in enumerate(("http", "ssh", "git")):
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/x.git"
            repository = opened(tmp_path / str(number), url, clone_timeout_s=0.7)
            with pytest.raises(GitUnavailable) as error:
                repository.fetch()
            assert error.value.reason == "TimedOut"


def test_a_slow_remote_is_waited_for(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    http.delay = 0.3
    assert over_http(tmp_path, http).fetch().config == origin.tip()


def test_a_push_whose_answer_was_lost_has_landed_if_history_says_so(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 33: applied, answer lost."""
    repository = over_http(tmp_path, http)
    repository.fetch()
    http.drop_answer = "/git-receive-pack"
    new, outcome = pushed(repository, None)
    assert outcome == Landed()
    assert origin.tip("status/lon1-a") == new
    assert repository.fetch().stale == {}


def test_a_push_that_never_arrived_is_unknown_and_may_be_repeated(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 33, 39: this server may read and not write; nothing is taken as done or as lost."""
    repository = over_http(tmp_path, http)
    repository.fetch()
    http.only, http.status = "receive-pack", 403
    new, outcome = pushed(repository, None)
    assert isinstance(outcome, Unknown)
    assert "403" in outcome.reason
    assert repository.fetch().config == origin.tip()
    http.status = None
    assert repository.push([RefUpdate("lon1-a", new, None)]) == {"lon1-a": Landed()}
    assert origin.tip("status/lon1-a") == new


def test_a_push_with_the_remote_gone_afterwards_is_unknown_then_found_landed(
    tmp_path: Path, http: HttpRemote, origin: Origin
) -> None:
    """FAULTS 33: applied, answer lost, and no way to ask at once."""
    repository = over_http(tmp_path, http)
    repository.fetch()
    http.drop_answer = "/git-receive-pack"
    http.only, http.status = "upload-pack", 503
    new, outcome = pushed(repository, None)
    assert isinstance(outcome, Unknown)
    assert TOKEN not in outcome.reason
    http.status = http.drop_answer = None
    assert repository.fetch().status == {"lon1-a": new}
    assert repository.push([RefUpdate("lon1-a", new, None)]) == {"lon1-a": Landed()}


def test_a_push_that_hangs_ends_in_time(tmp_path: Path, http: HttpRemote, origin: Origin) -> None:
    """FAULTS 30, 33: the answer to the push never ends, though the push was applied."""
    over_http(tmp_path, http).fetch()
    http.hang = "/git-receive-pack"
    for seconds in IMPATIENT:
        before, name = http.hung, f"lon1-{seconds:g}"
        repository = over_http(tmp_path, http, timeout_s=seconds)
        new = repository.commit({"report.yaml": b"x"}, None, "x", author="lon1-a", when=1)
        outcome = repository.push([RefUpdate(name, new, None)])[name]
        wait_until_no_git_is_left(tmp_path / "clone")
        if outcome == Landed():
            break
    assert outcome == Landed()
    assert http.hung == before + 1
    assert origin.tip(f"status/{name}") == new


def test_ssh_with_a_pinned_host_key(tmp_path: Path, ssh: SshRemote, origin: Origin) -> None:
    url = f"ssh://root@127.0.0.1:{ssh.port}{origin.path}"
    known = ssh.known_hosts(tmp_path / "known hosts")
    repository = opened(tmp_path / "clone", url, ssh_key=ssh.key, known_hosts=known)
    assert repository.fetch().config == origin.tip()
    new, outcome = pushed(repository, None)
    assert (outcome, origin.tip("status/lon1-a")) == (Landed(), new)


def test_another_host_key_is_refused_until_a_person_agrees(tmp_path: Path, ssh: SshRemote, origin: Origin) -> None:
    """FAULTS 29, 35: a host that is not who it was gets nothing from us and gives us nothing."""
    url = f"ssh://root@127.0.0.1:{ssh.port}{origin.path}"
    known = ssh.known_hosts(tmp_path / "known")
    repository = opened(tmp_path / "clone", url, ssh_key=ssh.key, known_hosts=known)
    repository.fetch()
    ssh.renew_host_key()
    with pytest.raises(GitUnavailable, match="host key is unknown or has changed; compare it") as error:
        repository.fetch()
    assert error.value.reason == "HostKeyMismatch"
    assert isinstance(pushed(repository, None)[1], Unknown)
    ssh.known_hosts(known)
    assert repository.fetch().config == origin.tip()


def test_an_unknown_host_and_a_refused_key_are_told_apart(tmp_path: Path, ssh: SshRemote, origin: Origin) -> None:
    """FAULTS 29."""
    url = f"ssh://root@127.0.0.1:{ssh.port}{origin.path}"
    (tmp_path / "none").touch()
    stranger = opened(tmp_path / "a", url, ssh_key=ssh.key, known_hosts=tmp_path / "none")
    with pytest.raises(GitUnavailable) as unknown:
        stranger.fetch()
    assert unknown.value.reason == "HostKeyMismatch"
    assert (tmp_path / "none").read_text() == ""
    known = ssh.known_hosts(tmp_path / "known")
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    with pytest.raises(GitUnavailable) as refused:
        opened(tmp_path / "b", url, ssh_key=other, known_hosts=known).fetch()
    assert refused.value.reason == "AuthenticationFailed"
    ssh.key.chmod(0o644)
    with pytest.raises(GitUnavailable) as public:
        opened(tmp_path / "c", url, ssh_key=ssh.key, known_hosts=known).fetch()
    assert public.value.reason == "KeyPermissions"


def test_the_process_list_of_these_tests_can_show_arguments() -> None:
    """The check for tokens above can fail: arguments are visible."""
    with subprocess.Popen(["sleep", "30.125"]) as visible:
        try:
            eventually(lambda: any("sleep 30.125" in line for line in command_lines()), 30, "its arguments to be seen")
        finally:
            visible.kill()
