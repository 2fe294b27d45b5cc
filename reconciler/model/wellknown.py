"""Images that everybody uses: the port they listen on, where their data is, and whether they call other services.

Only defaults come from here; what a file says goes first. An image is known by the last part of its name, so that
`postgres:16`, `registry.example/library/postgres` and `bitnami/...` mirrors of the same layout need no entry of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WellKnown:
    """Defaults of one image. `backing`: it serves others and calls nobody, so `needs` defaults to `{}`."""

    port: int
    data: str | None = None
    backing: bool = True


_TABLE: Mapping[str, WellKnown] = {
    "postgres": WellKnown(5432, "/var/lib/postgresql/data"),
    "postgis": WellKnown(5432, "/var/lib/postgresql/data"),
    "timescaledb": WellKnown(5432, "/var/lib/postgresql/data"),
    "mysql": WellKnown(3306, "/var/lib/mysql"),
    "mariadb": WellKnown(3306, "/var/lib/mysql"),
    "percona": WellKnown(3306, "/var/lib/mysql"),
    "redis": WellKnown(6379, "/data"),
    "valkey": WellKnown(6379, "/data"),
    "keydb": WellKnown(6379, "/data"),
    "memcached": WellKnown(11211),
    "mongo": WellKnown(27017, "/data/db"),
    "rabbitmq": WellKnown(5672, "/var/lib/rabbitmq"),
    "nats": WellKnown(4222),
    "elasticsearch": WellKnown(9200, "/usr/share/elasticsearch/data"),
    "opensearch": WellKnown(9200, "/usr/share/opensearch/data"),
    "clickhouse-server": WellKnown(8123, "/var/lib/clickhouse"),
    "influxdb": WellKnown(8086, "/var/lib/influxdb2"),
    "couchdb": WellKnown(5984, "/opt/couchdb/data"),
    "cassandra": WellKnown(9042, "/var/lib/cassandra"),
    "neo4j": WellKnown(7687, "/data"),
    "etcd": WellKnown(2379),
    "minio": WellKnown(9000, "/data"),
    "mailpit": WellKnown(8025),
    "nginx": WellKnown(80, backing=False),
    "httpd": WellKnown(80, backing=False),
    "caddy": WellKnown(80, backing=False),
    "traefik": WellKnown(80, backing=False),
    "grafana": WellKnown(3000, "/var/lib/grafana", backing=False),
    "prometheus": WellKnown(9090, "/prometheus", backing=False),
}


def well_known(image: str) -> WellKnown | None:
    """The defaults of an image reference, None if it is not in the table."""
    name = image.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    known = _TABLE.get(name)
    if known is not None and name == "postgres" and _major(image) >= 18:
        return WellKnown(known.port, "/var/lib/postgresql")  # from 18 on the image keeps its data in a directory per version there
    return known


def _major(image: str) -> int:
    tag = image.split("@")[0].rsplit("/", 1)[-1].partition(":")[2]
    digits = tag.split(".")[0].split("-")[0]
    return int(digits) if digits.isdecimal() else 0
