"""Running a command in the test's own process, and the state directory of a server that has decided something."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from typer.testing import CliRunner

from reconciler.cli import app
from reconciler.model.cluster import Backend, ClusterState, Decider, Live, Rejected, Rollout, ServiceState
from reconciler.model.report import Condition, InstanceReport, Report, Seen, Serving

SPEC = "sha256:" + "1" * 64
NEWER = "sha256:" + "2" * 64
LIVE = "a" * 40
TIP = "b" * 40
WEB, API = "shop/prod/web", "shop/prod/api"


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both together."""
        return self.stdout + self.stderr


def run(*arguments: object, env: Mapping[str, str] | None = None) -> Told:
    """`reconcile <arguments>`, away from the machine's own settings. Fails on a fault of the program itself."""
    clean = {name: None for name in os.environ if name.startswith("RECONCILER_")}
    given = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, given, env={**clean, "NO_COLOR": "1", **(env or {})}, prog_name="reconcile")
    assert "Traceback" not in result.stderr, result.stderr
    return Told(result.exit_code, result.stdout, result.stderr)


def cluster() -> ClusterState:
    """Two services of one server: `api` is settled, of `web` a newer version was refused."""
    slot = Backend(server="one", slot="primary", spec=SPEC, role="live", weight=100)
    live = Live(spec=SPEC, revision=LIVE, image="example/web@sha256:0")
    done = Rollout(id="aaaaaaa/1", target=SPEC, revision=LIVE, strategy="toggle", phase="done", cause="first deploy")
    aborted = Rollout(
        id="bbbbbbb/1", target=NEWER, revision=TIP, strategy="toggle", phase="aborted", cause="env X", reason="one: status 500"
    )
    web = ServiceState(
        internal_port=5001,
        container_port=80,
        live=live,
        rollout=aborted,
        rejected=Rejected(spec=NEWER, revision=TIP, reason="one: status 500", log=("[red]starting[/red]", "evil \x1b[2J line")),
        held="one: status 500; commit a change",
        backends=(slot,),
    )
    api = ServiceState(internal_port=5002, container_port=80, live=live, rollout=done, backends=(slot,))
    return ClusterState(
        epoch="e",
        generation=7,
        decided_by=Decider(server="one", program="0"),
        members=("one",),
        config=TIP,
        services={WEB: web, API: api},
    )


def report() -> Report:
    """What server `one` says: it acknowledged the generation before the last."""
    return Report(
        server="one",
        instance="i",
        program="0",
        seen=Seen(config=TIP, epoch="e", generation=7),
        serving=Serving(epoch="e", generation=6),
        instances=(InstanceReport(service=WEB, slot="primary", spec=SPEC, phase="live"),),
        conditions=(
            Condition(type="Ready", status=False, reason="Progressing", message="web is held"),
            Condition(type="Warning", status=True, reason="Warning", message="ignored its stop signal", service=API),
        ),
    )


def state_dir(directory: Path, state: ClusterState | None = None) -> Path:
    """A state directory with a copy of the decision, as a pass leaves it."""
    directory.mkdir()
    copied = (state or cluster()).model_dump(mode="json", by_alias=True)
    document: dict[str, object] = {"based_on": None, "reasons": [], "cluster": copied}
    (directory / "cluster.json").write_text(json.dumps(document))
    return directory


def as_yaml(model: ClusterState | Report) -> str:
    """As it is pushed."""
    return yaml.safe_dump(model.model_dump(mode="json", by_alias=True))


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory with its time and content, to show that nothing was written."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
