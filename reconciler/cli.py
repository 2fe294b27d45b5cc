"""`reconcile`: options and commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from reconciler.commands import codes
from reconciler.commands.arguments import hoisted, seconds, service_names
from reconciler.commands.invocation import Invocation
from reconciler.errors import Invalid, ReconcilerError

GLOBAL = (
    "Every command also takes --config, --repo, --branch, --status-repo, --server, --state-dir, --docker, --json, "
    "--quiet and --verbose."
)
VALUED = ("--config", "--repo", "--branch", "--status-repo", "--server", "--state-dir", "--docker")
FLAGS = ("--json", "--quiet", "-q", "--verbose", "-v")
_USAGE = next(kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "UsageError")


class Reconcile(TyperGroup):
    """Takes global options before and after the command, and turns every error into its exit code."""

    def make_context(self, *args: Any, **given: Any) -> Any:
        """Parse the program's own options."""
        return _coded(lambda: super(Reconcile, self).make_context(*args, **given))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move global options to the front, so that they may stand anywhere."""
        return super().parse_args(ctx, hoisted(args, VALUED, FLAGS))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return _coded(lambda: super(Reconcile, self).invoke(ctx))


app = typer.Typer(
    cls=Reconcile,
    help="Keeps what runs on plain Docker servers as a Git repository says: merge to deploy, git revert to roll back.",
    epilog=codes.EXPLAINED,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="project/env/service", autocompletion=service_names)]
SomeService = Annotated[
    str | None, typer.Argument(metavar="[SERVICE]", help="only this one: project/env/service", autocompletion=service_names)
]


def _version(wanted: bool) -> None:
    if wanted:
        from reconciler import __version__

        typer.echo(f"reconcile {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def reconcile(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Bring this server to what is desired, wait until it is there, and end.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            help="With --once: the longest wait, such as 90s or 15m.",
            parser=seconds,
            metavar="DURATION",
            show_default="15m",
        ),
    ] = 900.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --once: show the plan and change nothing.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file.", show_default="/etc/reconciler/reconciler.yaml")
    ] = None,
    repo: Annotated[str | None, typer.Option("--repo", help="Config repository: https, ssh, or a path.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", help="Its branch.", show_default="main")] = None,
    status_repo: Annotated[
        str | None, typer.Option("--status-repo", help="Repository of the status branches.", show_default="--repo's")
    ] = None,
    server: Annotated[str | None, typer.Option("--server", help="This server's name.")] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", help="Where this server keeps its state.", show_default="/var/lib/reconciler")
    ] = None,
    docker: Annotated[
        str | None, typer.Option("--docker", help="Docker Engine.", show_default="unix:///var/run/docker.sock", metavar="URL")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every step, with its time.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Each setting can also stand in the settings file, or in the environment as RECONCILER_<NAME>."""
    given = {"repo": repo, "branch": branch, "server": server, "state_dir": state_dir, "docker": docker}
    context.obj = invocation = Invocation(config, given, as_json, quiet, verbose, status_repo)
    if context.invoked_subcommand is not None:
        if once or dry_run:
            raise typer.BadParameter(f"--once does not go with the command {context.invoked_subcommand}; give one of them")
        return
    if dry_run and not once:
        raise typer.BadParameter("--dry-run goes with --once; for the same without it: reconcile plan")
    if not once:
        typer.echo(context.get_help())
        raise typer.Exit
    if dry_run:
        from reconciler.commands.plan import plan

        raise typer.Exit(plan(invocation, None, detailed=False))
    from reconciler.commands.once import once as bring_about

    raise typer.Exit(bring_about(invocation, timeout))


@app.command(epilog=GLOBAL)
def run(context: typer.Context) -> None:
    """The daemon: follow the repository and keep this server as it says, until a signal ends it."""
    from reconciler.commands.run import run as follow

    raise typer.Exit(follow(context.obj))


@app.command(epilog=GLOBAL)
def validate(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A config repository, or a directory or file of one.")] = Path("."),
    policy: Annotated[
        Path | None, typer.Option("--policy", help="A server's policy file; without it nothing special is allowed.")
    ] = None,
) -> None:
    """Check a config repository: every problem as path:line:column: message. Needs no settings, no server and no Docker."""
    from reconciler.commands.validate import validate as check

    raise typer.Exit(check(context.obj, path, policy))


@app.command(epilog=GLOBAL)
def plan(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="A work tree, to see what a commit of it would do; else --repo's tip.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="End with 3 instead of 0 when there is something to do.")
    ] = False,
) -> None:
    """What the next pass on this server would decide and do. Nothing is written anywhere."""
    from reconciler.commands.plan import plan as show_plan

    raise typer.Exit(show_plan(context.obj, path, detailed=detailed_exitcode))


@app.command(epilog=GLOBAL)
def diff(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(metavar="[PATH]", help="A work tree to compare with; else --repo's tip.")] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="End with 3 instead of 0 when anything differs.")
    ] = False,
) -> None:
    """What is desired against what is live here, field by field. Values of variables and secrets are never shown."""
    from reconciler.commands.diff import diff as show_differences

    raise typer.Exit(show_differences(context.obj, path, detailed=detailed_exitcode))


@app.command(epilog=GLOBAL)
def status(
    context: typer.Context,
    service: SomeService = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Every server, from --repo alone: needs no server, no settings and no Docker.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="With --cluster: also what is in order.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --cluster: end with 3 instead of 0 when something is not in order.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds; with --cluster every five.")] = False,
) -> None:
    """What is live where, what is under way, what is held back: from this server, or with --repo from anywhere."""
    if cluster:
        from reconciler.commands.cluster_status import cluster_status

        raise typer.Exit(cluster_status(context.obj, service, watch=watch, everything=everything, detailed=detailed_exitcode))
    if everything or detailed_exitcode:
        raise typer.BadParameter("--all and --detailed-exitcode go with --cluster")
    from reconciler.commands.status import status as show_status

    raise typer.Exit(show_status(context.obj, service, watch=watch))


@app.command(epilog=GLOBAL)
def history(
    context: typer.Context,
    service: SomeService = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many decisions.")] = 20,
) -> None:
    """What was decided, the newest first, with the config commit that was followed."""
    from reconciler.commands.history import history as show_history

    raise typer.Exit(show_history(context.obj, service, limit))


@app.command(epilog=GLOBAL)
def retry(context: typer.Context, service: Service) -> None:
    """Try a refused version again as it is. A request, written on this server, for its daemon or the next --once."""
    from reconciler.commands.retry import retry as request

    raise typer.Exit(request(context.obj, service))


@app.command(epilog=GLOBAL)
def doctor(context: typer.Context) -> None:
    """Is everything here that a server needs? Each check is ok, warn or fail, with what to do. Ends with 2 when one fails."""
    from reconciler.commands.doctor import doctor as examine

    raise typer.Exit(examine(context.obj))


def main() -> None:
    """The program."""
    app()


def _coded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except _USAGE as error:
        vars(error)["exit_code"] = codes.INVALID  # click and typer say 2, which is something else here
        raise
    except Invalid as error:
        _fail(error, codes.INVALID)
    except (ReconcilerError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _fail(error, codes.FAILED)
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was begun stays as it is, and the next run goes on from there\n")
        raise typer.Exit(codes.INTERRUPTED) from None
    except Exception as error:
        if hasattr(error, "exit_code"):  # click's and typer's own
            raise
        traceback.print_exc()
        sys.stderr.write("error: this is a fault in the program itself; please report it with the lines above\n")
        raise typer.Exit(codes.FAILED) from None


def _fail(error: Exception, code: int) -> NoReturn:
    from reconciler.commands.output import show_error

    show_error(error)
    raise typer.Exit(code) from None
