"""The test bed: several servers, each with its own network, Docker daemon and reconciler, and one Git host, on one machine."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import yaml
from load import Load

from reconciler.model.cluster import ClusterState
from reconciler.model.identity import ServiceKey
from reconciler.model.report import Report
from reconciler.plan.slots import ends_by_itself
from reconciler.ports import internal_port
from tests.cluster import traffic
from tests.cluster.githost import GitHost
from tests.cluster.member import Member
from tests.cluster.namespaces import Ground, end, processes_of
from tests.cluster.traffic import Client, Seen, Traffic
from tests.integration.images import Images
from tests.remote import Remote
from tests.waiting import eventually

Value = TypeVar("Value")
Service = Mapping[str, Any]
PROJECT, ENV = "shop", "prod"
NAMES = ("a", "b", "c")
QUICK = {"http": "/up", "interval": "300ms", "timeout": "2s", "retries": 20}
SLOW_START = {"health": {**QUICK, "start_period": "30s"}, "env": {"START_DELAY": "5"}}
"""For a service that is staged for a while, even where the machine is slow."""
SETTLED = ("done", "aborted")


class Bed:
    """Made once for a session; `reset` begins anew for each test."""

    def __init__(self, images: Images, ground: Ground | None = None) -> None:
        self.images = images
        self.ground = ground or Ground.lay()
        self.members = {
            name: Member(name, self.ground.add(name, 11 + number), self.ground.directory / name)
            for number, name in enumerate(NAMES)
        }
        repositories = self.ground.directory / "git"
        repositories.mkdir()
        self.git_host = GitHost(self.ground.add("git", 5), repositories)
        self.client = Client(self.ground.add("client", 9))
        self._local = {name: self.client.reach(member.address) for name, member in self.members.items()}
        self._remotes = 0
        self._written: dict[str, int] = {}
        self._services: set[str] = set()
        self.remote: Remote
        self.started_s = self._start_engines()

    def _start_engines(self) -> float:
        """Returns the seconds it took."""
        began = time.monotonic()
        file = self.ground.directory / "images.tar"
        save = ["docker", "save", "--output", str(file), self.images.app, self.images.nginx]
        subprocess.run(save, check=True, capture_output=True, timeout=300)
        for member in self.members.values():
            member.engine.begin()
        for member in self.members.values():
            member.engine.ready()
            member.engine.load(file)
        file.unlink()
        return time.monotonic() - began

    def reset(self) -> None:
        """A new repository, new machines."""
        self._remotes += 1
        self.remote = Remote.create(self.ground.directory / "git" / f"config{self._remotes}.git")
        self.remote.git("config", "http.receivepack", "true")
        self.remote.git("config", "receive.autogc", "false")
        self.git_host.pushes = self.git_host.fetches = 0
        for member in self.members.values():
            member.reset({"repo": self.git_host.url(self.remote), "nginx_image": self.images.nginx})

    def rest(self) -> None:
        """No daemon runs any more."""
        for member in self.members.values():
            member.kill()
            member.namespace.heal()

    def close(self) -> None:
        """Remove everything that was made."""
        for member in self.members.values():
            member.kill()
            member.engine.stop()
        self.git_host.close()
        end(processes_of(self.ground.directory))
        self.ground.clear()

    # --- servers

    def server(self, name: str) -> Member:
        return self.members[name]

    def run(self, *names: str) -> None:
        """Start the daemons of these servers."""
        for name in names:
            self.server(name).run()

    def begin(self, services: Mapping[str, Service], cluster: Mapping[str, Any]) -> str:
        """Start the daemons of the inventory's servers, deploy, and wait until each edge shows version 1. Returns the revision."""
        names = sorted(cluster["servers"])
        self.run(*names)
        revision = self.deploy(services, "First", cluster, *names)
        self.eventually(lambda: {self.server(name).version() for name in names} == {"1"}, 20, "every edge to serve")
        return revision

    def partition(self, name: str, from_: str) -> None:
        """Nothing goes between a server and `git`, another server, or `network`: everybody but the Git host."""
        here = self.server(name).namespace
        others = [m.address for other, m in self.members.items() if other != name] + [self.client.namespace.address]
        match from_:
            case "git":
                here.cut(self.git_host.namespace.address)
            case "network":
                for other in others:
                    here.cut(other)
            case _:
                here.cut(self.server(from_).address)

    def heal(self, name: str) -> None:
        """Undo the partitions of a server."""
        self.server(name).namespace.heal()

    # --- the config

    def app(self, version: str = "1", **given: object) -> dict[str, Any]:
        """The test application as a service. `env` is added to its VERSION."""
        env = {"VERSION": version, **given.pop("env", {})}  # type: ignore[dict-item]
        return {"image": self.images.app, "port": 8080, "health": QUICK, "drain": {"timeout": "20s"}, **given, "env": env}

    def web(self, version: str = "1", **given: object) -> dict[str, Any]:
        """A public one."""
        return self.app(version, public={"hosts": ["shop.example"]}, **given)

    def inventory(
        self,
        *names: str,
        drained: Iterable[str] = (),
        ack_timeout: str = "90s",
        zones: Mapping[str, str] | None = None,
        **rollout: str,
    ) -> dict[str, Any]:
        """`cluster.yaml` with these servers."""
        gone = set(drained)
        servers = {
            name: {
                "address": self.server(name).address,
                **({"zone": zones[name]} if zones else {}),
                **({"state": "drained"} if name in gone else {}),
            }
            for name in names
        }
        return {"servers": servers, "rollout": {"ack_timeout": ack_timeout, **rollout}}

    def commit(
        self, services: Mapping[str, Service] | None, message: str = "change", cluster: Mapping[str, Any] | None = None
    ) -> str:
        """Commit what is given. Returns the commit's object id."""
        files: dict[str, str | bytes | None] = {}
        if cluster is not None:
            files["cluster.yaml"] = json.dumps(cluster, indent=1)
        if services is not None:
            self._services = {f"{PROJECT}/{ENV}/{name}" for name in services}
            project = {"project": {"name": PROJECT, "services": dict(services)}}
            files[f"projects/{PROJECT}/{ENV}.yaml"] = json.dumps(project, indent=1)
        return self.remote.commit(files, message)

    # --- the status, as anybody with read access to Git sees it

    def cluster(self, at: str = "status/cluster") -> ClusterState:
        """The decision, at its tip or at one of its commits."""
        return ClusterState.model_validate(yaml.safe_load(self.remote.show(at, "cluster.yaml")))

    def report(self, name: str, at: str | None = None) -> Report:
        """A server's report, at its tip or at one of its commits."""
        return Report.model_validate(yaml.safe_load(self.remote.show(at or f"status/{name}", "report.yaml")))

    def written(self, branch: str, commit: str) -> int:
        """When a commit of a status branch was made, in seconds: one clock for all servers of the bed."""
        if commit not in self._written:
            lines = self.remote.git("log", "--format=%H %ct", f"refs/heads/{branch}").splitlines()
            self._written |= {sha: int(seconds) for sha, seconds in (line.split() for line in lines)}
        return self._written[commit]

    def converged(self, revision: str | None = None, members: Iterable[str] | None = None) -> bool:
        """Every rollout has ended, at this revision, and every member serves the last generation."""
        return self.lacking(revision, members) is None

    def lacking(self, revision: str | None = None, members: Iterable[str] | None = None) -> str | None:
        """The first thing that is not `converged` yet; None when there is none."""
        cluster = self.cluster()
        if set(cluster.services) != self._services:
            return f"decided on are {sorted(cluster.services)}, committed {sorted(self._services)}"
        if revision is not None and cluster.config != revision:
            return f"the decision follows {cluster.config[:7]}"
        if members is not None and cluster.members != tuple(sorted(members)):
            return f"the members are {', '.join(cluster.members)}"
        for name, state in cluster.services.items():
            rollout = state.rollout
            if rollout is not None and rollout.phase not in SETTLED:
                return f"{name} is {rollout.phase}: {rollout.reason}"
            if ends_by_itself(state.held):
                return f"{name} has not begun yet: {state.held}"
            if leaving := [f"{b.slot} on {b.server} is {b.role}" for b in state.backends if b.role != "live"]:
                return f"{name}: {', '.join(leaving)}"
        for member in cluster.members:
            if left := self._left(cluster, member):
                return f"{member} still runs {', '.join(sorted(left))}"
            serving = self.report(member).serving
            if serving is None or (serving.epoch, serving.generation) != (cluster.epoch, cluster.generation):
                return f"{member} does not say that it serves generation {cluster.generation}"
        return None

    def _left(self, cluster: ClusterState, member: str) -> set[str]:
        """What a server that runs has yet to end, as the decision no longer lists it: it does that by itself and tells nobody."""
        if member not in self.members or not self.members[member].running:
            return set()
        listed = {
            container
            for name, state in cluster.services.items()
            for b in state.backends
            if b.server == member
            for instance in (ServiceKey.parse(name).instance(b.slot, b.replica),)
            for container in (instance.name, instance.sidecar)
        }
        return set(self.server(member).ids(f"{PROJECT}_{ENV}_")) - listed

    def settle(self, revision: str, *members: str, seconds: float = 180.0) -> float:
        """Waits until `converged`. Returns the seconds it took."""
        began = time.monotonic()

        def told() -> str:
            return f"{revision[:7]} to be served by everybody: {self.lacking(revision, members or None)}\n{self.story()}"

        eventually(lambda: self.converged(revision, members or None), seconds, told)
        return time.monotonic() - began

    def deploy(self, services: Mapping[str, Service] | None, message: str = "change", cluster: Mapping[str, Any] | None = None,
               *members: str, seconds: float = 180.0) -> str:  # fmt: skip
        """Commit and wait."""
        revision = self.commit(services, message, cluster)
        self.settle(revision, *members, seconds=seconds)
        return revision

    def live(self, service: str) -> dict[str, str]:
        """The live slot by server (of replica 1)."""
        backends = self.cluster().services[f"{PROJECT}/{ENV}/{service}"].backends
        return {b.server: b.slot for b in backends if b.role == "live" and b.replica == 1}

    def running(self, service: str, *names: str) -> dict[str, dict[str, str]]:
        """A service's containers on each of these servers, sidecars among them: see `Member.ids`."""
        return {name: self.server(name).ids(f"{PROJECT}_{ENV}_{service}") for name in names}

    def conditions(self, name: str) -> str:
        """Reasons and messages of a server's report."""
        return "\n".join(f"{c.reason}: {c.message}" for c in self.report(name).conditions)

    def port(self, service: str) -> int:
        """The internal port: on localhost of consumers and of the hosts."""
        return internal_port(PROJECT, ENV, service)

    def rollout(self, service: str) -> str:
        """Phase and reason of the last rollout."""
        rollout = self.cluster().services[f"{PROJECT}/{ENV}/{service}"].rollout
        return f"{rollout.phase}: {rollout.reason}" if rollout is not None else "none"

    def decisions(self) -> list[str]:
        """Subjects of `status/cluster`, the oldest first."""
        return [commit.subject for commit in reversed(self.remote.log("status/cluster"))]

    def eventually(self, condition: Callable[[], Value], seconds: float = 60.0, what: str = "the condition") -> Value:
        """Waits, and tells the whole story when it does not come."""
        return eventually(condition, seconds, lambda: f"{what}\n{self.story()}")

    def story(self) -> str:
        """What happened, for a failed assertion."""
        parts = ["--- decisions", *self.decisions()[-20:]]
        for name in sorted(self.remote.branches()):
            if name.startswith("status/"):
                file = "cluster.yaml" if name == "status/cluster" else "report.yaml"
                parts += [f"--- {name}", self.remote.show(name, file)]
        for member in self.members.values():
            if member.said:
                parts += [f"--- {member.name} said (running: {member.running})", *member.said.splitlines()[-30:]]
        return "\n".join(parts)

    # --- load

    def load(self, *names: str, mesh: str | None = None, seconds: float = traffic.SECONDS) -> Traffic:
        """Load through the edges of these servers; `mesh`: also through what the public service calls at this service's port."""
        loads: dict[str, Load] = {}
        for name in names:
            url = f"http://{self._local[name]}:80"
            loads[f"{name}/edge"] = self.client.start(traffic.edge(url, seconds))
            if mesh is not None:
                loads[f"{name}/mesh"] = self.client.start(traffic.mesh(url, internal_port(PROJECT, ENV, mesh), seconds))
        return Traffic(loads)

    def posts(self, name: str, service: str, within: str) -> Traffic:
        """POSTs to a public service on a server's three ways: its edge, the sidecar of the container `within`, and its loopback."""
        member, plan = self.server(name), traffic.mesh_posts(self.port(service))
        return Traffic(
            {
                f"{name}/edge": self.client.start(traffic.edge_posts(f"http://{self._local[name]}:80")),
                f"{name}/sidecar": traffic.start(lambda *command: member.inside(within, *command), plan),
                f"{name}/host": traffic.start(member.namespace.enter, plan),
            }
        )

    def nothing_lost(self, seen: Seen, at_least: int = 50) -> None:
        """Every request was answered, and there were some."""
        assert seen.failed == 0, f"{seen.failed} of {seen.sent} lost\n{seen.errors}\n{self.story()}"
        assert seen.sent >= at_least, f"only {seen.sent} requests were sent: that proves nothing\n{seen.errors}"

    def only_under_way(self, seen: Seen) -> None:
        """Each client lost at most the one request, or websocket message, that it had under way when the fault came."""
        for name, report in seen.reports.items():
            for kind, count in report.kinds.items():
                assert count.failed <= 1, f"{name}: {kind} lost {count.failed} of {count.sent}\n{seen.errors}\n{self.story()}"
