"""Real remotes for the Git tests: a bare repository, reached by path, by ssh (own sshd) and by http (git http-backend)."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.waiting import eventually

GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "LC_ALL": "C",
}
CONFIG = {"cluster.yaml": b"servers: {}\n", "projects/shop/prod.yaml": b"project: {name: shop}\n"}
Content = bytes | tuple[int, bytes]


def git(directory: Path, *arguments: str, input: bytes = b"", check: bool = True) -> str:
    """Plain git, for looking at what the adapter did."""
    argv = ["git", f"--git-dir={directory}", *arguments]
    done = subprocess.run(argv, input=input, capture_output=True, env=GIT_ENVIRONMENT, timeout=60)
    assert not check or done.returncode == 0, done.stderr.decode()
    return (done.stdout + (b"" if check else done.stderr)).decode(errors="replace").strip()


class Origin:
    """A bare repository with a config branch, as people would have it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        git(path, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
        git(path, "config", "receive.autogc", "false")
        git(path, "config", "http.receivepack", "true")
        self.commit(CONFIG, "Start")

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def tip(self, branch: str = "main") -> str | None:
        return git(self.path, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False) or None

    def commit(
        self, files: Mapping[str, Content], message: str, *, branch: str = "main", orphan: bool = False, parent: str = ""
    ) -> str:
        """Commit exactly `files` (content, or mode and content) on a branch; `orphan`: as new history."""
        parent = "" if orphan else parent or self.tip(branch) or ""
        stream = [f"commit refs/heads/{branch}\ncommitter Ann <ann@example.org> {int(time.time())} +0200\n".encode()]
        stream.append(b"data %d\n%s\n" % (len(message.encode()), message.encode()))
        if parent:
            stream.append(f"from {parent}\n".encode())
        stream.append(b"deleteall\n")
        for path, given in files.items():
            mode, content = given if isinstance(given, tuple) else (0o100644, given)
            if mode == 0o160000:
                stream.append(b"M %o %s %s\n" % (mode, content, path.encode()))
            else:
                stream.append(b"M %o inline %s\ndata %d\n%s\n" % (mode, path.encode(), len(content), content))
        if orphan:
            git(self.path, "update-ref", "-d", f"refs/heads/{branch}")
        git(self.path, "fast-import", "--quiet", "--force", input=b"".join(stream))
        tip = self.tip(branch)
        assert tip is not None
        return tip


class HttpRemote:
    """`git http-backend` behind basic authentication, with faults on demand.

    `status`: answer every request whose path contains `only` with this code. `hang`: stop for ever in the middle of the answer
    to a request whose path contains this; `hung` counts them. `drop_answer`: carry such a request out and break the connection
    instead of answering. `delay`: seconds before any answer.
    """

    def __init__(self, root: Path, token: str) -> None:
        self.token = token
        self.status: int | None = None
        self.only = ""
        self.hang: str | None = None
        self.hung = 0
        self.drop_answer: str | None = None
        self.delay = 0.0
        self.seen_commands: list[str] = []
        self.requests = 0
        self.released = threading.Event()
        remote = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                remote._answer(self, root)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> HttpRemote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, root: Path) -> None:
        self.requests += 1
        self.seen_commands += command_lines()
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if self.delay:
            self.released.wait(self.delay)
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        faulty = self.status is not None and self.only in request.path
        if faulty or base64.b64decode(given).decode().partition(":")[2] != self.token:
            request.send_response(self.status if faulty and self.status else 401)
            request.send_header("WWW-Authenticate", 'Basic realm="git"')
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        path, _, query = request.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            timeout=60,
            env=GIT_ENVIRONMENT | {
                "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": request.command, "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "REMOTE_USER": "ci", "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            },
        )  # fmt: skip
        if self.drop_answer and self.drop_answer in request.path:
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        request.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if self.hang and self.hang in request.path and request.command == "POST" and b"command=ls-refs" not in body:
            request.wfile.write(content[: max(1, len(content) * 2 // 3)])
            request.wfile.flush()
            self.hung += 1
            self.released.wait()
            return
        request.wfile.write(content)


def command_lines() -> list[str]:
    """The arguments of every process, as any user of the machine can see them."""
    lines = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            lines.append(Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


class SshRemote:
    """An sshd of our own on 127.0.0.1, with its own host key and one authorized key."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700)
        self.key = directory / "client"
        self._keygen(self.key)
        (directory / "authorized_keys").write_bytes(self.key.with_suffix(".pub").read_bytes())
        (directory / "authorized_keys").chmod(0o600)
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.renew_host_key()

    def renew_host_key(self) -> None:
        """Start, or start anew with another host key."""
        self.close()
        host_key = self._directory / "host"
        for old in (host_key, host_key.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        self._keygen(host_key)
        Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": host_key, "UsePAM": "no", "StrictModes": "no",
            "AuthorizedKeysFile": self._directory / "authorized_keys", "PasswordAuthentication": "no",
            "PidFile": "none", "PermitRootLogin": "prohibit-password", "KbdInteractiveAuthentication": "no",
        }  # fmt: skip
        config = self._directory / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self._process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
        eventually(self._answers, 60, "sshd to answer")

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            return client.recv(4) == b"SSH-"

    def known_hosts(self, file: Path) -> Path:
        """Write the present host key to a known-hosts file."""
        kind, key, *_ = (self._directory / "host.pub").read_text().split()
        file.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        return file

    def __enter__(self) -> SshRemote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    @staticmethod
    def _keygen(file: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True, timeout=30)
