"""Three servers on this machine: deployed, changed, refused, rolled back, one cut short and one drained, under load.

    tools/demo_cluster.py up             play the story; the servers then go on running
    tools/demo_cluster.py up --down      and remove everything at the end
    tools/demo_cluster.py down           remove what `up` made, and nothing else

Each server has a network namespace, a Docker daemon and a reconciler of its own; they share a bare Git repository and nothing else.
Exit code of `up`: 0 when every step happened and no request failed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from demo_cluster_story import ENTRANCES, ClusterStory
from demo_ground import ROOT, DemoError, write_json
from demo_table import WIDTH, steps_table
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.cluster.bed import Bed
from tests.cluster.namespaces import Ground, obstacle, place, remove
from tests.cluster.traffic import Seen
from tests.integration import images as image_store

PREFIX = "recd"  # not that of the tests: a run of theirs sweeps what killed ones left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--down", action="store_true", help="remove everything at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.add_argument("--name", default=hashlib.sha256(str(ROOT).encode()).hexdigest()[:4], help="for several at a time")
    options = parser.parse_args()
    name = PREFIX + options.name
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    try:
        if problem := obstacle():
            raise DemoError(problem)
        if options.what == "down":
            return _down(name, console)
        try:
            return _up(name, console, options.json, stays=not options.down)
        finally:
            if options.down:
                _down(name, console)
    except (DemoError, AssertionError) as error:  # the bed's own complaints are assertions
        console.print(f"demo: {error}", markup=False)
    except KeyboardInterrupt:
        console.print(
            "\ndemo: interrupted. What was made so far is still there: `make demo-cluster-down` removes it.", markup=False
        )
        return 130
    return 1


def _up(name: str, console: Console, file: Path | None, *, stays: bool) -> int:
    begin = time.monotonic()
    if place(name).exists():
        console.print("demo: removes the previous demo first")
        remove(place(name))
    console.print("demo: makes three network namespaces, each with a Docker daemon (half a minute)")
    bed = Bed(image_store.ensure(), Ground.lay(name))
    bed.reset()
    for member in bed.members.values():
        member.settings["repo"] = str(bed.remote.path)  # one that is still there when this process has ended
    console.print(f"demo: servers {', '.join(bed.members)}; the config repository is {bed.remote.path}", markup=False)
    with console.status("") as spinner:

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        story = ClusterStory(bed, say, lambda text: spinner.update(escape(text)))
        try:
            _play(bed, story, console)
            total = story.end_load()
        except BaseException:
            story.abandon()
            raise
    _show(console, story, total)
    seconds = time.monotonic() - begin
    if file is not None:
        steps = [asdict(step) for step in story.steps]
        write_json(file, {"seconds": round(seconds, 1), "sent": total.sent, "failed": total.failed, "steps": steps})
    console.print()
    if total.failed:
        console.print(f"demo: FAILED: {total.failed} of {total.sent} requests; the first errors:\n{total.errors}", markup=False)
    else:
        console.print(f"demo: {total.sent} requests through the edges of three servers, 0 failed, in {seconds:.0f} s altogether.")
    if stays:
        _say_what_stays(console, bed)
    return 1 if total.failed else 0


def _play(bed: Bed, story: ClusterStory, console: Console) -> None:
    def heading(text: str) -> None:
        console.print(f"\n[bold]{escape(text)}[/bold]")

    heading("1. first deploy on three servers: git push")
    story.first_deploy()
    _status(bed, console)
    heading("2. load until the end, through every server's edge and the mesh behind it")
    story.load()
    heading("3. a change: git push. Every server stages it, and all switch together")
    changed = story.goes_live("change", "2", "web 2")
    heading("4. a change that crashes on b alone: git push. It is switched nowhere")
    bad = story.is_refused("change that fails on b", "3", "web 3, which crashes on b")
    _status(bed, console)
    heading(f"5. git revert {bad[:7]} (the refused one)")
    story.reverts("revert of it", bad)
    heading(f"6. git revert {changed[:7]} (the change): back to version 1")
    story.reverts("roll back", changed)
    heading("7. a change, and c's reconciler is killed while it stages: the others wait for it, by name")
    story.survives_a_kill("c", "change, c killed", "4", "web 4", lambda: _status(bed, console))
    heading("8. c is drained: git push. Its instances go, its edge stays and serves")
    story.drains("c", "c drained", "c is drained for maintenance")
    _status(bed, console)


def _status(bed: Bed, console: Console) -> None:
    """What a person sees on a laptop."""
    command = ["status", "--cluster", "--repo", str(bed.remote.path)]
    console.print(f"\n[bold]$ reconcile {' '.join(command)}[/bold]", soft_wrap=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    columns = {} if sys.stdout.isatty() else {"COLUMNS": str(console.width)}
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "reconciler", *command], cwd=ROOT, env=environment | columns, check=True, timeout=60)
    console.print()


def _show(console: Console, story: ClusterStory, total: Seen) -> None:
    console.print()
    title = "shop/prod/web on three servers, as the status refs and the clients tell it"
    console.print(steps_table(console, title, story.steps, sent=total.sent, failed=total.failed))
    table = Table(box=SIMPLE)
    for column in ("entrance", "requests", "failed", "answers by version"):
        table.add_column(column)
    for entrance, report in total.reports.items():
        seen = ", ".join(f"{version}: {times}" for version, times in sorted(report.seen.items())) if "/edge" in entrance else ""
        failed = Seen({entrance: report}).failed
        table.add_row(ENTRANCES[entrance.partition("/")[2]].format(entrance[0]), str(report.sent), str(failed), seen)
    console.print(table)


def _say_what_stays(console: Console, bed: Bed) -> None:
    reconcile = Path(sys.executable).with_name("reconcile")
    server = next(iter(bed.members.values()))
    console.print(
        f"The servers go on running. Ask for them: {reconcile} status --cluster --repo {bed.remote.path}\n"
        f"Change something yourself:      git clone {bed.remote.path}, edit, git commit, git push origin HEAD:main\n"
        f"Ask an edge:                    nsenter --net=/var/run/netns/{server.namespace.name} curl -H 'Host: shop.example' http://{server.address}/\n"
        f"What a server says:             {server.log}\n"
        "Remove all of it:               make demo-cluster-down",
        markup=False,
        soft_wrap=True,
    )


def _down(name: str, console: Console) -> int:
    directory = place(name)
    if not directory.exists():
        console.print("demo: nothing of a cluster demo is here")
        return 0
    remove(directory)
    console.print(
        f"demo: removed three servers with their containers, namespaces and Docker daemons, and {directory}", markup=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
