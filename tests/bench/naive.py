"""A deployer without any remedy, to show that the load finds what it is meant to find.

The same containers and nginx image: an edge, an nginx for the host and a sidecar. Each toggle starts the new slot, waits until it
is healthy, writes configurations that name it alone, reloads each nginx, and stops the old slot at once, as a short script does.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from docker.models.containers import Container
from docker.models.networks import Network

from tests.bench.traffic import CONSUMER, SHOP
from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.waiting import eventually

STREAM = """daemon off; error_log stderr; pid /tmp/nginx.pid; events {{ }}
stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass {address}:9000; }} }}
"""
EDGE = """daemon off; error_log stderr; pid /tmp/nginx.pid; worker_processes auto; events {{ worker_connections 4096; }}
http {{
    access_log off;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{ listen {port}; server_name {shop};
        location / {{ proxy_pass http://{web}:8080; proxy_http_version 1.1; proxy_request_buffering on; client_max_body_size 0;
            proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade; }} }}
    server {{ listen {port}; server_name {consumer_host}; location / {{ proxy_pass http://{consumer}:8080; }} }}
}}
"""


@dataclass
class Naive:
    """`toggle` deploys the next version of both services."""

    scope: Scope
    images: Images
    directory: Path
    edge_port: int
    mesh_port: int
    slots: dict[str, Container] = field(default_factory=dict)
    nginxes: dict[str, Container] = field(default_factory=dict)
    network: Network | None = None

    def up(self) -> None:
        """Everything in its first version."""
        self.network = self.scope.network("naive")
        self.nginxes["sidecar"] = self._nginx("sidecar", self.network.name or "", "events { }\ndaemon off; pid /tmp/nginx.pid;\n")
        environment = {"VERSION": "1"}
        self.consumer = self.scope.run(
            self.images.app, "consumer", env=environment, network=f"container:{self.nginxes['sidecar'].name}"
        )
        self.slots = {service: self._start(service, "0") for service in ("web", "echo")}
        texts = self._texts()
        self.nginxes["edge"] = self._nginx("edge", self.network.name or "", texts["edge"], publish=True)
        self.nginxes["host"] = self._nginx("host", "host", texts["host"])
        self._reload({"sidecar": texts["sidecar"]})
        eventually(lambda: self._get(SHOP) == 200 and self._get(CONSUMER) == 200, 20)

    def toggle(self, version: str) -> None:
        """Start, wait, reload, stop at once."""
        old = self.slots
        self.slots = {service: self._start(service, version) for service in old}
        self._reload(self._texts())
        for container in old.values():
            container.stop(timeout=10)
            container.remove()

    def _start(self, service: str, version: str) -> Container:
        environment = {"VERSION": version, **({"TCP_PORT": "9000"} if service == "echo" else {})}
        assert self.network is not None
        container = self.scope.run(self.images.app, f"{service}_{version}", env=environment, network=self.network.name)
        eventually(lambda: self._healthy(container), 30, f"{container.name} healthy")
        return container

    def _healthy(self, container: Container) -> bool:
        with urllib.request.urlopen(f"http://{self._address(container)}:8080/up", timeout=1) as answer:
            return bool(json.load(answer)["up"])

    def _address(self, container: Container) -> str:
        container.reload()
        assert self.network is not None
        return str(container.attrs["NetworkSettings"]["Networks"][self.network.name]["IPAddress"])

    def _texts(self) -> dict[str, str]:
        stream = STREAM.format(port=self.mesh_port, address=self._address(self.slots["echo"]))
        names = {"web": self.slots["web"].name, "consumer": self.nginxes["sidecar"].name}
        edge = EDGE.format(port=self.edge_port, shop=SHOP, consumer_host=CONSUMER, **names)
        return {"edge": edge, "host": stream, "sidecar": stream}

    def _nginx(self, suffix: str, network: str, text: str, publish: bool = False) -> Container:
        directory = self.directory / "naive" / suffix
        directory.mkdir(parents=True)
        (directory / "nginx.conf").write_text(text)
        return self.scope.client.containers.run(
            self.images.nginx,
            ["nginx", "-c", "/naive/nginx.conf"],
            name=f"{self.scope.name}_{suffix}",
            detach=True,
            labels=self.scope.labels,
            network=network,
            volumes={str(directory): {"bind": "/naive", "mode": "ro"}},
            ports={f"{self.edge_port}/tcp": ("127.0.0.1", self.edge_port)} if publish else {},
        )

    def _reload(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            (self.directory / "naive" / name / "nginx.conf").write_text(text)
            code, output = self.nginxes[name].exec_run(["nginx", "-c", "/naive/nginx.conf", "-s", "reload"])
            assert code == 0, output

    def _get(self, host: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.edge_port}/", headers={"Host": host})
        with urllib.request.urlopen(request, timeout=2) as answer:
            return int(answer.status)
