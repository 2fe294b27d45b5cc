"""The sample shop on this machine: deployed, changed, refused and rolled back under load, with numbers of what happened.

    tools/demo.py up             play the story; the shop then goes on running
    tools/demo.py up --down      and remove everything at the end
    tools/demo.py down           remove what `up` made, and nothing else

Exit code of `up`: 0 when every step happened and no request failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import docker
import docker.errors
from demo_ground import PREFERRED_PORT, DemoError, Ground, free_port, taken_names, write_json
from demo_status import Status
from demo_story import HOST, Story
from demo_table import WIDTH, Step, steps_table
from load import Report
from rich.console import Console
from rich.markup import escape

LOAD_SECONDS_MOST = 900.0
WEB_HEALTH = "/up, interval: 500ms, timeout: 1s, retries: 20}\n      public: {hosts: [shop.localhost, shop.example], path: /}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--down", action="store_true", help="remove everything at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.add_argument("--directory", type=Path, help="where its files are (.demo)")
    parser.add_argument("--name", help="name of the server and the project, for several at a time")
    options = parser.parse_args()
    ground = Ground.of_this_tree(options.directory.absolute() if options.directory else None, options.name)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    try:
        client = docker.from_env(timeout=60)
        if options.what == "down":
            return _down(ground, client, console)
        try:
            return _up(ground, client, console, options.json, stays=not options.down)
        finally:
            if options.down:
                _down(ground, client, console)
    except docker.errors.DockerException as error:
        console.print(f"demo: Docker says: {error}\nIs a daemon running? `make docker` installs and starts one.", markup=False)
    except DemoError as error:
        console.print(f"demo: {error}", markup=False)
    except KeyboardInterrupt:
        console.print("\ndemo: interrupted. What was made so far is still there: `make demo-down` removes it.", markup=False)
        return 130
    return 1


def _up(ground: Ground, client: docker.DockerClient, console: Console, file: Path | None, *, stays: bool) -> int:
    begin = time.monotonic()
    if ground.exists():
        console.print("demo: removes the previous demo first")
        ground.remove(client)
    if taken := taken_names(client, ground):
        raise DemoError(
            f"containers that are not this demo's have names that it needs: {', '.join(taken)}. "
            "Remove them; those of a demo in another checkout with `make demo-down` there."
        )
    edge_port = free_port(PREFERRED_PORT)
    story = None
    try:
        with console.status("") as spinner:

            def say(line: str) -> None:
                console.print(line, markup=False, soft_wrap=True)

            say(f"demo: makes a Git repository of sample-repo/ in {ground.directory}")
            ground.repository()
            first = ground.commit("The shop")
            ground.write_settings(edge_port)
            say(f"demo: starts the reconciler of server {ground.server} on it")
            story = Story(ground, ground.start(), edge_port, say, lambda text: spinner.update(escape(text)))
            _play(ground, story, first, console)
            total = story.end_load()
    except BaseException:
        if story is not None:
            story.abandon()
        raise
    _show(console, ground, story.steps, total)
    if file is not None:
        _write(file, story.steps, total, f"http://{HOST}:{edge_port}/", time.monotonic() - begin)
    _verdict(console, total, time.monotonic() - begin)
    if stays:
        _say_what_stays(console, ground, edge_port)
    return 1 if total.failed else 0


def _play(ground: Ground, story: Story, first: str, console: Console) -> None:
    def heading(text: str) -> None:
        console.print(f"[bold]{escape(text)}[/bold]")

    def newer() -> str:
        ground.edit(ground.project_file, 'VERSION: "1", COLOUR: steelblue', 'VERSION: "2", COLOUR: seagreen')
        return ground.commit("web 2, in green")

    def broken() -> str:
        ground.edit(ground.project_file, 'VERSION: "2"', 'VERSION: "3"')
        ground.edit(ground.project_file, WEB_HEALTH, WEB_HEALTH.replace("/up", "/ready"))
        return ground.commit("web 3, which has no /ready")

    heading("1. first deploy: git push")
    story.first_deploy(first)
    heading("2. load: 4 clients POST, 2 open the page, 2 go through the mesh, until the end")
    story.load(LOAD_SECONDS_MOST)
    heading("3. a change of the web service: git push")
    changed = story.goes_live("change", newer)
    heading("4. a change whose health check fails: git push")
    bad = story.is_refused("broken change", broken)
    heading(f"5. git revert {bad[:7]} (the refused one)")
    story.changes_nothing("revert of it", lambda: ground.revert(bad))
    heading(f"6. git revert {changed[:7]} (the change): back to version 1")
    story.goes_live("roll back", lambda: ground.revert(changed))


def _show(console: Console, ground: Ground, steps: list[Step], total: Report) -> None:
    console.print()
    title = "shop/prod/web, as the status refs and the clients tell it"
    table = steps_table(console, title, steps, sent=total.sent, failed=total.failed)
    console.print(table)
    console.print(f"\n[bold]status log[/bold] (git log status/cluster status/{ground.server})")
    for line in Status(ground).lines():
        console.print(
            f"  {line.time} {line.subject}", markup=False, soft_wrap=True, style="" if line.ref.endswith("/cluster") else "dim"
        )


def _verdict(console: Console, total: Report, seconds: float) -> None:
    console.print()
    if total.failed:
        console.print(f"demo: FAILED: {total.failed} of {total.sent} requests; the first errors of each kind:", markup=False)
        for error in total.errors:
            console.print(f"  {error}", markup=False, soft_wrap=True)
    else:
        console.print(f"demo: {total.sent} requests, 0 failed, in {seconds:.0f} s altogether.")


def _say_what_stays(console: Console, ground: Ground, edge_port: int) -> None:
    reconcile = Path(sys.executable).with_name("reconcile")
    with_settings = f"--config {ground.settings}"
    console.print(
        f"The shop goes on running:       http://{HOST}:{edge_port}/  (or: curl -H 'Host: {HOST}' http://127.0.0.1:{edge_port}/version)\n"
        f"Change it yourself:             cd {ground.clone}, edit, git commit, git push origin HEAD:main\n"
        f"Ask the reconciler:             {reconcile} status {with_settings}\n"
        f"Its log:                        {ground.log}\n"
        "Remove all of it:               make demo-down",
        markup=False,
        soft_wrap=True,
    )


def _write(file: Path, steps: list[Step], total: Report, url: str, seconds: float) -> None:
    write_json(
        file,
        {
            "url": url,
            "seconds": round(seconds, 1),
            "sent": total.sent,
            "failed": total.failed,
            "errors": list(total.errors),
            "kinds": {kind: asdict(count) for kind, count in total.kinds.items()},
            "steps": [asdict(step) for step in steps],
        },
    )


def _down(ground: Ground, client: docker.DockerClient, console: Console) -> int:
    removed = ground.remove(client)
    console.print(
        f"demo: removed {', '.join(removed)}" if removed else "demo: nothing of a demo is here", markup=False, soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
