"""What a failed git command means to the person who has to repair it. First match wins; nothing is decided by these words."""

from __future__ import annotations

import re

from reconciler.errors import Transient


class GitUnavailable(Transient):
    """A remote cannot be used now. `reason` is one CamelCase word for a condition in the status."""

    def __init__(self, message: str, *, reason: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason


_TABLE: tuple[tuple[str, str, str], ...] = (
    # what git, ssh or curl says, the reason, what is wrong and what to do
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|No \S+ host key is known", "HostKeyMismatch",
     "the host key is unknown or has changed; compare it with the host's published key, then put it into the known-hosts file"),
    (r"UNPROTECTED PRIVATE KEY FILE", "KeyPermissions", "the ssh key is readable to others; make it mode 0600"),
    (r"Permission denied \(|Load key .*: ", "AuthenticationFailed",
     "the ssh key was refused or cannot be read; register its public half with the repository"),
    (r"could not read (Username|Password)|Authentication failed|requested URL returned error: 401", "AuthenticationFailed",
     "no valid credential (401); renew the token"),
    (r"requested URL returned error: 403|[Pp]ermission to .* denied|not allowed to", "Forbidden",
     "the credential may not do this (403); give it the right to this repository"),
    (r"requested URL returned error: 429", "RateLimited", "the host limits requests (429); poll or push less often"),
    (r"requested URL returned error: 5\d\d|Internal Server Error", "RemoteError", "the host fails (5xx); nothing to do here"),
    (r"[Cc]ould(n't| not) find remote ref", "BranchMissing", "the branch does not exist; push it, or correct `branch`"),
    (r"Could not resolve (host|proxy)|Name or service not known|Temporary failure in name resolution", "NameResolution",
     "the host name does not resolve; check DNS and the URL"),
    (r"SSL certificate|certificate (verif|has expired|subject)|gnutls_handshake|SSL_ERROR|TLS|CAfile", "TlsFailed",
     "the TLS connection cannot be trusted; check the certificate and `ca_file`"),
    (r"dubious ownership", "Ownership", "the repository belongs to another user; give it to this one"),
    (r"transport '.*' not allowed|remote helper", "ProtocolRefused", "the protocol is not allowed; use https or ssh"),
    (r"No space left on device|Disk quota exceeded", "DiskFull", "the disk is full; free some space"),
    (r"repository '.*' not found|does not appear to be a git repository|returned error: 404|Repository not found", "NotFound",
     "there is no such repository, or the credential does not show it; check the URL"),
    (r"Connection refused|Failed to connect|No route to host|Network is unreachable", "Unreachable",
     "the host does not accept connections; check network and firewall"),
    (r"timed out|too slow|Timeout", "TimedOut", "the host does not answer in time; check the network"),
    (r"hung up|early EOF|unexpected disconnect|Empty reply|RPC failed|Connection (reset|closed)|Broken pipe", "Disconnected",
     "the connection broke off; nothing to do here unless it stays so"),
)  # fmt: skip

_LOCAL = re.compile(
    r"bad object|corrupt|object file .* is empty|inflate|unable to read (tree|sha1)|loose object|not a git repository: '"
    r"|bad config|missing (blob|tree|commit|necessary)|did not send all necessary objects|packfile .* (cannot|does not|is far)"
    r"|bad (packed|ref|pack)|index file .* (is too small|does not match)|unresolved deltas|could not parse|revision walk setup"
    r"|unable to (migrate|find) |Could not read [0-9a-f]{40}|garbage at end|invalid (object|sha1)|broken ref|failed to read object"
)


def explain(verb: str, url: str, stderr: str) -> GitUnavailable:
    """The error for a git command that tried to `verb` `url` and failed, in a line. `url` and `stderr` hold no secrets."""
    for pattern, reason, advice in _TABLE:
        if re.search(pattern, stderr):
            return GitUnavailable(
                f"cannot {verb} {url}: {advice}", reason=reason, retry_after=60.0 if reason == "RateLimited" else None
            )
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "git said nothing")
    return GitUnavailable(f"cannot {verb} {url}: {said[:300]}", reason="GitFailed")


def is_local(stderr: str) -> bool:
    """Whether the words speak of damage in the local clone. What the remote said about itself does not count."""
    return any(_LOCAL.search(line) for line in stderr.splitlines() if not line.startswith("remote:"))
