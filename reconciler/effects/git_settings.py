"""What the Git adapter has to be told, and the environment in which every git command runs.

Nothing of the machine's or a user's Git configuration is read, but for a person who only looks (`personal`). Tokens travel in the
environment (`GIT_CONFIG_*`), never in an argument, a URL or a file of the clone.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.errors import Stalled, Transient

_PASSED_ON = ("PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
              "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK")  # fmt: skip
_PERSONAL = ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSH_VARIANT", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_SSL_CAINFO",
             "GIT_SSL_CAPATH", "GIT_PROXY_COMMAND")  # fmt: skip
_SCHEMES = ("file", "git", "http", "https", "ssh")
_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SCP_LIKE = re.compile(
    rf"^(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@{_HOST}:(?!//)|{_HOST}:(?!/))[^:]"
)  # without a user, scheme:/x is a slip
_BRANCH = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9_.-]|/(?!/))*$")
OWNER_VARIABLE = "RECONCILER_CLONE"


@dataclass(frozen=True)
class Remote:
    """One remote repository and how to reach it. `url` is without user information for http and https."""

    name: str
    url: str
    username: str
    token: str | None = field(repr=False)
    ssh_key: Path | None
    known_hosts: Path | None
    ca_file: Path | None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not appear in a message, in each form in which it is used."""
        if self.token is None:
            return ()
        return (self.token, self._basic())

    def header(self) -> tuple[str, str] | None:
        """The Git configuration entry that authenticates to this host alone, or None."""
        parts = urlsplit(self.url)
        if self.token is None or parts.scheme not in ("http", "https"):
            return None
        return f"http.{parts.scheme}://{parts.netloc}/.extraHeader", f"Authorization: Basic {self._basic()}"

    def _basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.token}".encode()).decode()


@dataclass(frozen=True)
class GitSettings:
    """Where config and status live. Durations are seconds, sizes bytes.

    `token_file` is read at each use, so that a rotated token needs no restart; `token_env` names an environment variable instead.
    `status_*` default to the config remote's. `username` goes with the token. `status=False`: no status refs are fetched.
    `personal`: remotes are reached as the person who runs this reaches them with git: their configuration, credential helpers, ssh
    configuration and agent. Nobody is asked for anything.
    """

    url: str = field(repr=False)
    branch: str = "main"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    token_file: Path | None = None
    token_env: str | None = None
    username: str = "x-access-token"
    ca_file: Path | None = None
    status: bool = True
    status_url: str | None = field(default=None, repr=False)
    status_ssh_key: Path | None = None
    status_token_file: Path | None = None
    status_token_env: str | None = None
    status_branch_prefix: str = "status/"
    timeout_s: float = 60.0
    clone_timeout_s: float = 600.0
    connect_timeout_s: int = 10
    max_tree_entries: int = 20_000
    max_blob_bytes: int = 4 * 1024 * 1024
    personal: bool = False

    def __post_init__(self) -> None:
        for name in (self.branch, f"{self.status_branch_prefix}x"):
            if not _BRANCH.match(name) or ".." in name or name.endswith((".lock", ".", "/")):
                raise Stalled(f"{name!r} cannot be a branch name; use letters, digits, '.', '_', '-' and '/'", reason="GitSettings")
        if not self.status_branch_prefix.endswith("/"):
            raise Stalled(f"status branch prefix {self.status_branch_prefix!r} has to end with '/'", reason="GitSettings")
        if self.branch.startswith(self.status_branch_prefix) and self.status_url is None:
            raise Stalled(f"config branch {self.branch!r} lies among the status branches; choose another", reason="GitSettings")
        for url in (self.url, *([] if self.status_url is None else [self.status_url])):
            _check_url(url)

    def config_remote(self) -> Remote:
        """The remote of the config branch. Raises Transient if its token cannot be read."""
        return self._remote("config", self.url, self.ssh_key, self.token_file, self.token_env)

    def status_remote(self) -> Remote:
        """The remote of the status branches: the config remote's repository unless `status_url` names another."""
        if self.status_url is None:
            return self.config_remote()
        own = self.status_token_file or self.status_token_env
        return self._remote(
            "status",
            self.status_url,
            self.status_ssh_key or self.ssh_key,
            self.status_token_file if own else self.token_file,
            self.status_token_env if own else self.token_env,
        )

    def _remote(self, name: str, url: str, ssh_key: Path | None, token_file: Path | None, token_env: str | None) -> Remote:
        url, user, password = _split_userinfo(url)
        token = _token(token_file, token_env) or password
        return Remote(name, url, user or self.username, token, ssh_key, self.known_hosts, self.ca_file)


def environment(settings: GitSettings, clone: Path, remote: Remote | None) -> dict[str, str]:
    """The whole environment of a git command that works in `clone` and, unless None, talks to `remote`."""
    personal = settings.personal and remote is not None
    entries = [
        ("core.hooksPath", os.devnull),
        ("core.fsync", "objects,reference"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        *([] if personal else [("credential.helper", "")]),
        ("protocol.version", "2"),
        ("protocol.ext.allow", "never"),
        ("submodule.recurse", "false"),
        ("fetch.recurseSubmodules", "false"),
        ("push.gpgSign", "false"),
        ("push.followTags", "false"),
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", "30"),
    ]
    if personal:
        passed = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _PERSONAL}
    else:
        passed = {name: value for name in _PASSED_ON if (value := os.environ.get(name))}
        passed |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(clone)}
    if remote is not None:
        if remote.ca_file is not None:
            entries.append(("http.sslCAInfo", str(remote.ca_file)))
        if (header := remote.header()) is not None:
            entries.append(header)
        if not personal:
            passed["GIT_SSH_COMMAND"] = _ssh_command(settings, remote)
            passed["GIT_SSH_VARIANT"] = "ssh"
    for index, (key, value) in enumerate(entries):
        passed[f"GIT_CONFIG_KEY_{index}"] = key
        passed[f"GIT_CONFIG_VALUE_{index}"] = value
    return passed | {
        "GIT_CONFIG_COUNT": str(len(entries)),
        "GIT_DIR": str(clone),
        "GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
        OWNER_VARIABLE: str(clone),
    }


def _ssh_command(settings: GitSettings, remote: Remote) -> str:
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        f"ConnectTimeout={settings.connect_timeout_s}",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
        "ControlMaster=no",
        "ControlPath=none",
        "ForwardAgent=no",
        "PermitLocalCommand=no",
    ]
    if remote.known_hosts is not None:
        options += [f'UserKnownHostsFile="{remote.known_hosts}"', f"GlobalKnownHostsFile={os.devnull}"]
    if remote.ssh_key is not None:
        options += [f'IdentityFile="{remote.ssh_key}"', "IdentitiesOnly=yes", "IdentityAgent=none"]
    return shlex.join(["ssh", "-F", os.devnull, *(word for option in options for word in ("-o", option))])


def _check_url(url: str) -> None:
    """Refuse what git would take for an option, a remote helper or a second line. FAULTS 53."""
    scheme, separator, rest = url.partition("://")
    if not url.isprintable() or url.startswith("-") or "::" in url.partition("/")[0]:
        known = False
    elif separator:
        userinfo, at, _ = rest.partition("/")[0].rpartition("@")
        known = scheme in _SCHEMES and bool(rest) and not rest.startswith("-")
        if known and at and ":" in userinfo and scheme not in ("http", "https"):
            raise Stalled(f"a password stands in a {scheme} URL; use a key instead", reason="GitSettings")
    else:
        known = url.startswith("/") or bool(_SCP_LIKE.match(url))
    if not known:
        shown = re.sub(r"//[^/@]*@", "//***@", ascii(url))
        raise Stalled(
            f"{shown} is no usable Git URL; expected https://, ssh://, user@host:path, http://, git://, file:// or /path",
            reason="GitSettings",
        )


def _split_userinfo(url: str) -> tuple[str, str | None, str | None]:
    """An http or https URL without its user information, the user and the password. Other URLs stay as they are."""
    parts = urlsplit(url) if url.startswith(("http://", "https://")) else None
    if parts is None or "@" not in parts.netloc:
        return url, None, None
    userinfo, _, host = parts.netloc.rpartition("@")
    user, separator, password = userinfo.partition(":")
    if not separator:  # https://TOKEN@host: what stands there alone is as secret as a password
        return parts._replace(netloc=host).geturl(), None, unquote(user)
    return parts._replace(netloc=host).geturl(), unquote(user), unquote(password)


def _token(file: Path | None, variable: str | None) -> str | None:
    if file is not None:
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Transient(f"the Git token file {file} cannot be read: {error}; make it readable to the daemon") from error
        if not token:
            raise Transient(f"the Git token file {file} is empty; put the token there")
        return token
    return os.environ.get(variable) or None if variable is not None else None
