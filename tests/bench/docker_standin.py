"""A Docker Engine's answers without containers: a program that keeps what it was told to create and says it back.

    python -m tests.bench.docker_standin SOCKET

It speaks as much of the Engine's API over a Unix socket as one server's daemon uses, in the shapes that a 20.10 Engine answers.
Every container "runs" as this process, so that the adapter's looks into /proc are real. For counting what a pass costs with more
containers than a machine holds: the real adapter is in front of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STARTED = "2024-01-01T00:00:00.000000000Z"
NETWORKS = {"bridge": {"Name": "bridge", "Id": "bridge", "Labels": {}, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}}

Json = dict[str, Any]


class Engine:
    """What there is."""

    def __init__(self) -> None:
        self.containers: dict[str, Json] = {}
        self.networks: dict[str, Json] = dict(NETWORKS)
        self.lock = threading.Lock()

    def find(self, name: str) -> Json | None:
        """By id or name."""
        return self.containers.get(name) or next((c for c in self.containers.values() if c["Name"] == "/" + name), None)

    def create(self, name: str, body: Json) -> Json:
        """Keep it in the shape of an inspect."""
        identity = hashlib.sha256(name.encode()).hexdigest()
        asked = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        host = body.get("HostConfig") or {}
        networks = {network: self._endpoint(identity, network, given or {}) for network, given in asked.items()}
        if not networks and host.get("NetworkMode") == "host":
            networks = {"host": self._endpoint(identity, "host", {})}
        config = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
        image = "sha256:" + hashlib.sha256(str(body.get("Image")).encode()).hexdigest()
        state = {"Status": "created", "Running": False, "Pid": 0, "ExitCode": 0, "StartedAt": STARTED}
        self.containers[identity] = {
            "Id": identity, "Name": "/" + name, "Created": STARTED, "Image": image, "State": state, "RestartCount": 0,
            "Config": config, "HostConfig": host, "NetworkSettings": {"Networks": networks}, "Mounts": [],
        }  # fmt: skip
        return {"Id": identity, "Warnings": []}

    def connect(self, network: str, body: Json) -> None:
        """Join a container to a network."""
        container = self.find(body["Container"])
        if container is not None:
            endpoint = self._endpoint(container["Id"], network, body.get("EndpointConfig") or {})
            container["NetworkSettings"]["Networks"][network] = endpoint

    def entry(self, container: Json) -> Json:
        """As the list has it."""
        status = "Up 2 hours" if container["State"]["Running"] else "Created"
        return {
            "Id": container["Id"], "Names": [container["Name"]], "Image": container["Config"]["Image"],
            "ImageID": container["Image"], "Command": "app", "Created": 1704067200, "Ports": [],
            "Labels": container["Config"].get("Labels") or {}, "State": container["State"]["Status"], "Status": status,
            "HostConfig": {"NetworkMode": container["HostConfig"].get("NetworkMode", "")},
            "NetworkSettings": container["NetworkSettings"], "Mounts": [],
        }  # fmt: skip

    def _endpoint(self, identity: str, network: str, given: Json) -> Json:
        address = (given.get("IPAMConfig") or {}).get("IPv4Address", "")
        return {**given, "EndpointID": hashlib.sha256((identity + network).encode()).hexdigest(), "IPAddress": address}


ENGINE = Engine()
IMAGE = {"Config": {"Volumes": None, "ExposedPorts": {"8080/tcp": {}}}, "RepoDigests": []}


class Answers(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:
        """Silence: nobody reads it."""

    def do_GET(self) -> None:
        path = self._path()
        with ENGINE.lock:
            status, answer = self._get(path)
        if answer is None and status == 200:
            self._events()
        else:
            self._send(status, answer)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        query = parse_qs(urlsplit(self.path).query)
        with ENGINE.lock:
            status, answer = self._post(self._path(), query, body)
        self._send(status, answer)

    def _path(self) -> str:
        return re.sub(r"^/v1\.\d+", "", unquote(urlsplit(self.path).path))

    def _get(self, path: str) -> tuple[int, object]:
        if path == "/version":
            return 200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "stand-in"}
        if path == "/info":
            return 200, {"MemoryLimit": True, "CpuCfsQuota": True, "CpuCfsPeriod": True, "PidsLimit": True}
        if path == "/containers/json":
            return 200, [ENGINE.entry(container) for container in ENGINE.containers.values()]
        if path == "/networks":
            return 200, list(ENGINE.networks.values())
        if path == "/events":
            return 200, None
        if found := re.fullmatch(r"/containers/([^/]+)/json", path):
            container = ENGINE.find(found[1])
            return (200, container) if container is not None else (404, {"message": f"No such container: {found[1]}"})
        if found := re.fullmatch(r"/images/(.+)/json", path):
            return 200, {**IMAGE, "Id": "sha256:" + hashlib.sha256(found[1].encode()).hexdigest(), "RepoTags": [found[1]]}
        return 404, {"message": f"the stand-in has no answer to GET {path}"}

    def _post(self, path: str, query: dict[str, list[str]], body: Json) -> tuple[int, object]:
        if path == "/containers/create":
            return 201, ENGINE.create(query["name"][0], body)
        if path == "/networks/create":
            ENGINE.networks[body["Name"]] = {**body, "Id": body["Name"]}
            return 201, {"Id": body["Name"]}
        if found := re.fullmatch(r"/networks/([^/]+)/connect", path):
            ENGINE.connect(found[1], body)
            return 200, {}
        if found := re.fullmatch(r"/containers/([^/]+)/start", path):
            container = ENGINE.find(found[1])
            if container is not None:
                container["State"] |= {"Status": "running", "Running": True, "Pid": os.getpid()}
                return 204, None
        return 404, {"message": f"the stand-in has no answer to POST {path}"}

    def _send(self, status: int, answer: object) -> None:
        data = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if data:
            self.wfile.write(data)

    def _events(self) -> None:
        """A stream in which nothing ever happens, until the client goes."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        self.rfile.read(1)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """On a Unix socket."""

    daemon_threads = True
    request_queue_size = 64


def main() -> int:
    with Server(sys.argv[1], Answers) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
