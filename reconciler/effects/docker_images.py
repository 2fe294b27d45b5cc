"""Images: what is here, pulling, building from the config repository, and cleaning up what was built (FAULTS 11)."""

from __future__ import annotations

import io
import tarfile
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import docker.errors
from docker.utils import parse_repository_tag

from reconciler.effects.docker_api import DockerApi, explain, one_line, plain
from reconciler.errors import Stalled, Transient
from reconciler.model.container import PREFIX
from reconciler.model.observed import Image

LABEL_BUILT: Final = PREFIX + "built"  # by which server
_SILENCE_SECONDS: Final = 120  # a pull or build that says nothing for so long hangs
_PULL_SECONDS: Final = 900.0
_LOG_LINES: Final = 30
_ABSENT: Final = ("not found", "manifest unknown", "no such image", "does not exist", "name unknown")
_UNAUTHORIZED: Final = ("unauthorized", "authentication required", "denied", "no basic auth")


class Images:
    """The images of one daemon."""

    def __init__(self, api: DockerApi) -> None:
        self._api = api

    def image(self, reference: str) -> Image | None:
        """The image, None when it is not here. Raises Transient."""
        with self._api.call("image", f"inspect image {reference}") as client:
            try:
                found: Mapping[str, Any] = client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return None
        return to_image(reference, found)

    def pull(self, reference: str) -> Image:
        """Fetch it. Raises Transient, with words that tell a wrong name from an unreachable registry."""
        repository, tag = parse_repository_tag(reference)
        deadline = time.monotonic() + _PULL_SECONDS
        with self._api.call("pull", f"pull {reference}", seconds=_SILENCE_SECONDS) as client:
            try:
                for step in client.pull(repository, tag=tag or "latest", stream=True, decode=True):
                    if "error" in step:
                        raise _pull_failure(reference, str(step["error"]))
                    if time.monotonic() > deadline:
                        raise Transient(f"pull of {reference} was not done after {_PULL_SECONDS:.0f} s: see the network")
            except docker.errors.APIError as error:
                raise _pull_failure(reference, explain(error)) from error
        found = self.image(reference)
        if found is None:
            raise Transient(f"pull of {reference} said it was done and the image is not here: trying again")
        return found

    def build(self, tag: str, context: Mapping[str, tuple[int, bytes]], dockerfile: str, seconds: float = 900.0) -> tuple[str, ...]:
        """Build `tag` from files given as path -> (mode as Git has it, content), within `seconds`. Returns the log's last lines.

        Raises Stalled (`BuildFailed`) with the last lines when the build itself fails, Transient when time is up.
        """
        log: deque[str] = deque(maxlen=_LOG_LINES)
        deadline = time.monotonic() + seconds
        with self._api.call("build", f"build {tag}", seconds=min(_SILENCE_SECONDS, max(1, round(seconds)))) as client:
            archive = context_archive(context)
            try:
                steps: Iterable[Mapping[str, Any]] = client.build(
                    fileobj=archive,
                    custom_context=True,
                    dockerfile=dockerfile,
                    tag=tag,
                    rm=True,
                    forcerm=True,
                    labels={LABEL_BUILT: self._api.server},
                    timeout=client.timeout,
                    decode=True,
                )
                for step in steps:
                    log.extend(line.rstrip()[:400] for line in plain(str(step.get("stream", ""))).splitlines() if line.strip())
                    if "error" in step:
                        raise _build_failure(tag, str(step["error"]), log)
                    if time.monotonic() > deadline:
                        raise Transient(f"build of {tag} was not done after {seconds:.0f} s; last: {log[-1] if log else ''}")
            except docker.errors.APIError as error:
                raise _build_failure(tag, explain(error), log) from error
        return tuple(log)

    def remove_unused(self, keep: frozenset[str]) -> tuple[str, ...]:
        """Remove built images whose tags and ids are not in `keep` and that no container uses. Returns their ids."""
        with self._api.call("images", "list built images") as client:
            built: list[Mapping[str, Any]] = client.images(filters={"label": f"{LABEL_BUILT}={self._api.server}"})
        removed: list[str] = []
        for image in built:
            names = {str(image["Id"]), *(image.get("RepoTags") or ())}
            if names & keep:
                continue
            with self._api.call("rmi", f"remove image {image['Id']}") as client:
                try:
                    for name in [tag for tag in image.get("RepoTags") or () if tag != "<none>:<none>"] or [image["Id"]]:
                        client.remove_image(name)
                except docker.errors.APIError as error:
                    if error.status_code in (404, 409) or "unrecognized image" in explain(error):
                        continue  # in use, or gone by itself
                    raise
            removed.append(str(image["Id"]))
        return tuple(removed)


def to_image(reference: str, found: Mapping[str, Any]) -> Image:
    """Docker's inspect answer as an Image; its reference names the bytes (a registry's digest, else the local id).

    Docker tells digests by the short names of repositories; what was asked for by its digest is called as it was asked for.
    """
    repository, _ = parse_repository_tag(reference)
    digests = [str(digest) for digest in found.get("RepoDigests") or ()]
    own = [digest for digest in digests if digest.partition("@")[0] in (repository, _short(repository))]
    own = [reference] if "@" in reference else own
    config = found.get("Config") or {}
    exposed = sorted(int(port.partition("/")[0]) for port in config.get("ExposedPorts") or () if not port.endswith("/udp"))
    return Image(
        id=found["Id"],
        reference=(own or [str(found["Id"])])[0],
        volumes=tuple(sorted(config.get("Volumes") or ())),
        exposed=tuple(exposed),
    )


def _short(repository: str) -> str:
    """`docker.io/library/nginx` is `nginx` in Docker's own answers."""
    for registry in ("docker.io/", "index.docker.io/"):
        if repository.startswith(registry):
            return repository.removeprefix(registry).removeprefix("library/")
    return repository


def context_archive(context: Mapping[str, tuple[int, bytes]]) -> io.BytesIO:
    """The build context as a tar file, the same bytes on every server: sorted, without times and owners."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, (mode, content) in sorted(context.items()):
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755 if mode & 0o111 else 0o644
            if mode & 0o170000 == 0o120000:
                entry.type, entry.linkname, content = tarfile.SYMTYPE, content.decode(), b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


def _pull_failure(reference: str, words: str) -> Transient:
    lower = words.lower()
    if any(phrase in lower for phrase in _UNAUTHORIZED):
        return Transient(f"image {reference}: its registry refuses (check the name, or `docker login`): {one_line(words)}")
    if any(phrase in lower for phrase in _ABSENT):
        return Transient(f"image {reference} is not in its registry (check name and tag): {one_line(words)}")
    return Transient(f"image {reference} cannot be fetched, its registry is not reachable: {one_line(words)}")


def _build_failure(tag: str, words: str, log: Iterable[str]) -> Exception:
    lines = [line for line in log if not line.startswith(" ---> ")][-10:]
    lower = words.lower()
    if any(phrase in lower for phrase in ("no such host", "i/o timeout", "connection refused", "client.timeout", "tls handshake")):
        return Transient(f"build of {tag} cannot fetch its base image: {one_line(words)}")
    return Stalled("\n".join([f"build of {tag} failed: {one_line(words)}", *lines]), reason="BuildFailed")
