"""What one server knows about itself, as far as plans depend on it: names, paths (as text), images, ports, pools."""

from __future__ import annotations

from reconciler.model.base import Model


class Site(Model):
    """This server. Paths are absolute, on the host."""

    server: str
    nginx_image: str
    nginx_root: str  # a directory per nginx below it is mounted at `nginx_mount`
    nginx_mount: str = "/etc/reconciler-nginx"
    local_dir: str = "/local"
    network_pool: str = "10.213.0.0/16"
    generation_port: int = 4999
    host_generation_port: int = 4998
    edge_name: str = "nginx"
    host_name: str = "nginx_host"
    edge_ports: tuple[int, ...] = (80,)
    edge_address: str = "0.0.0.0"  # where the edge's public ports are published
    edge_shutdown_timeout: float = 900.0  # how long websockets of other services survive a reload
    host_listener: bool = True
    address: str | None = None  # the private address that backends are published on in multi_server mode
