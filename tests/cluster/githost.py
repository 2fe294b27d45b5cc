"""The Git host of the bed: one bare repository served over HTTP or SSH at an address of its own."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.cluster.namespaces import Namespace
from tests.effects.git_remotes import GIT_ENVIRONMENT
from tests.remote import Remote
from tests.waiting import eventually

PORT = 80
SSH_PORT = 22


class GitHost:
    """`git http-backend` behind a server of the standard library. `pushes` counts pushes that changed something."""

    def __init__(self, namespace: Namespace, root: Path) -> None:
        self.namespace = namespace
        self.pushes = 0
        self.fetches = 0
        host = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host._answer(self, root)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((namespace.address, PORT), Answer, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = namespace.listen(PORT)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, remote: Remote) -> str:
        return f"http://{self.namespace.address}/{remote.path.name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, root: Path) -> None:
        path, _, query = request.path.partition("?")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if path.endswith("/git-receive-pack"):
            self.pushes += 1
        elif path.endswith("/info/refs") and "git-upload-pack" in query:
            self.fetches += 1
        environment = GIT_ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "REMOTE_USER": "server",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, timeout=60, env=environment)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        request.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


class SshHost:
    """An sshd inside the Git host's namespace, with its own host key and one authorized key."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self._namespace = namespace
        self.key = directory / "client"
        host_key = directory / "host"
        for file in (self.key, host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True, timeout=30)
        authorized = directory / "authorized_keys"
        authorized.write_bytes(self.key.with_suffix(".pub").read_bytes())
        authorized.chmod(0o600)
        self.known_hosts = directory / "known_hosts"
        kind, key, *_ = host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"{namespace.address} {kind} {key}\n")
        options = {
            "Port": SSH_PORT, "ListenAddress": namespace.address, "HostKey": host_key, "UsePAM": "no", "StrictModes": "no",
            "AuthorizedKeysFile": authorized, "PasswordAuthentication": "no", "PidFile": "none",
            "PermitRootLogin": "prohibit-password", "KbdInteractiveAuthentication": "no",
        }  # fmt: skip
        config = directory / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        Path("/run/sshd").mkdir(exist_ok=True)
        command = namespace.enter("/usr/sbin/sshd", "-D", "-e", "-f", str(config))
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: f":{SSH_PORT} " in namespace.run("ss", "-ltn"), 10, "sshd to listen")

    def url(self, remote: Remote) -> str:
        return f"ssh://root@{self._namespace.address}{remote.path}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
