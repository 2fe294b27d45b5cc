"""A registry of a test's own: the `docker-registry` package of Debian on 127.0.0.1, which Docker Engines take without TLS."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import docker
import yaml

from tests.waiting import eventually

USER, PASSWORD = "tester", "correct-horse"
PROGRAM = Path(__file__).resolve().parents[2] / ".cache/registry/usr/bin/docker-registry"  # `tools/machine integration`
HASH = "$2y$05$bZ6/mh7JZQuGkYLN49YbReQZm8twjQnK54nNlUbDEL735.DgjPY6S"  # of that password, bcrypt


class Registry:
    """`put` pushes an image under a tag; `stop` and `start` are an outage. With `locked` it asks for a name and password."""

    def __init__(self, client: docker.DockerClient, directory: Path, port: int, *, locked: bool = False) -> None:
        self._client = client
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "registry.log"
        self._file = directory / "registry.yaml"
        self._locked = locked
        given = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        if locked:
            (directory / "htpasswd").write_text(f"{USER}:{HASH}\n")
            given["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
        self._file.write_text(yaml.safe_dump(given))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([str(PROGRAM), "serve", str(self._file)], stdout=log, stderr=log)
        eventually(self._answers, 30, lambda: self._log.read_text()[-2000:])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(30)

    def put(self, image: str, name: str, tag: str) -> str:
        """Pushes a local image as `name:tag` and forgets it locally. Returns its digest, `sha256:...`."""
        repository = f"{self.host}/{name}"
        self._client.images.get(image).tag(repository, tag)
        auth = {"username": USER, "password": PASSWORD} if self._locked else None
        digest = ""
        for line in self._client.images.push(repository, tag=tag, auth_config=auth, stream=True, decode=True):
            assert "error" not in line, line
            digest = (line.get("aux") or {}).get("Digest", digest)
        self._client.images.remove(f"{repository}:{tag}", noprune=True)
        assert digest.startswith("sha256:"), digest
        return str(digest)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 401
