"""Git commands in a bare clone: always the same neutral environment, always a deadline, never a secret in an argument."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.effects import process
from reconciler.effects.git_settings import GitSettings, Remote, environment
from reconciler.errors import Transient


class GitCommand:
    """Runs git for one set of settings."""

    def __init__(self, settings: GitSettings) -> None:
        self._settings = settings

    def run(
        self, clone: Path, *arguments: str, remote: Remote | None = None, timeout: float | None = None, input: bytes = b""
    ) -> process.Completed:
        """Run `git <arguments>` in `clone`, whatever its exit code. `timeout` in seconds, `timeout_s` if not given.

        `remote`: whose credentials go into the environment. Raises TimedOut; Transient if git cannot be run.
        """
        try:
            return process.run(
                ["git", *arguments],
                timeout=timeout or self._settings.timeout_s,
                env=environment(self._settings, clone, remote),
                cwd=clone,
                redact=remote.secrets if remote else (),
                input=input,
            )
        except process.Failed as error:
            raise Transient(str(error)) from error

    def set_refs(self, clone: Path, refs: Mapping[str, str | None]) -> None:
        """Set refs by full name, or delete them (None), all or nothing. Raises Transient."""
        if not refs:
            return
        lines = [f"update {ref} {sha}\n" if sha else f"delete {ref}\n" for ref, sha in refs.items()]
        done = self.run(clone, "update-ref", "--stdin", input="".join(lines).encode())
        if done.code != 0:
            raise Transient(f"cannot write refs in {clone}: {done.stderr_tail.strip()[:300]}; free the disk or remove the clone")
