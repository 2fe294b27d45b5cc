"""Puts the adapters together into a `World`: the real parts of one server."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler import __version__
from reconciler.effects.clock import SystemClock, machine_id
from reconciler.effects.docker import Docker
from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from reconciler.effects.journal import Journal
from reconciler.effects.nginx import Nginx
from reconciler.effects.probes import Inside, Prober
from reconciler.effects.pulses import Pulses
from reconciler.effects.secrets import SecretsDirectory, machine_key
from reconciler.engine.cycle import Cycle
from reconciler.engine.faults import StepwiseJournal, StepwiseRepository, requested
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.performer import Watch
from reconciler.engine.ports import JournalPort
from reconciler.engine.repository import Repository
from reconciler.engine.settings import Settings, StatusSettings, environment
from reconciler.engine.world import Identity, Options, World
from reconciler.errors import Invalid, Problem
from reconciler.model.policy import Policy, read_policy
from reconciler.model.site import Site

IDENTITY_FILE = "identity"


@dataclass
class Wired:
    """A cycle with its real parts, some of which have to be closed."""

    cycle: Cycle
    docker: Docker
    jobs: ThreadJobs
    prober: Prober
    pulses: Pulses
    git: GitRepository

    def close(self) -> None:
        """Stop what runs in the background. Traffic goes on."""
        self.prober.close()
        self.pulses.close()
        self.docker.close()


def wire(settings: Settings, wake: Callable[[], None], say: Callable[[str], None], watch: Watch) -> Wired:
    """Build everything from settings. `wake` is called from other threads when a pass is worth while.

    Raises Invalid (settings) or Stalled (state directory).
    """
    required(settings)
    assert settings.server is not None
    faults = requested(environment())
    journal = Journal(settings.state_dir)
    docker = Docker(settings.docker, settings.server)
    prober = Prober(Inside(exec=docker.exec, health=docker.health, logs=docker.logs), wake)
    pulses = Pulses(wake)
    jobs = ThreadJobs(wake)
    git = GitRepository(settings.state_dir / "repo.git", git_settings(settings))
    repository = Repository(git, settings.server)
    nginx = Nginx(settings.state_dir / "nginx", docker)
    if faults is not None:
        watch = faults.watch(watch)
        journal = StepwiseJournal(settings.state_dir, faults)
        repository = StepwiseRepository(git, settings.server, faults)
        nginx = Nginx(settings.state_dir / "nginx", docker, watch=faults.step)
    status = settings.status if isinstance(settings.status, StatusSettings) else None
    world = World(
        docker=docker,
        nginx=nginx,
        prober=prober,
        pulses=pulses,
        secrets=SecretsDirectory(settings.local_dir, machine_key(settings.state_dir / "secrets.key")),
        journal=journal,
        clock=SystemClock(),
        git=repository,
        jobs=jobs,
    )
    options = Options(
        identity=_identity(journal),
        program=__version__,
        policy=policy(settings),
        epoch=lambda: secrets.token_hex(8),
        status=status is not None,
        refuse_rewrite=settings.on_rewrite == "refuse",
        pushes_per_minute=status.max_pushes_per_minute if status is not None else 6,
        compact_after=status.compact_after if status is not None else 0,
        watch=watch,
        say=say,
    )
    return Wired(Cycle(world, site(settings), options), docker, jobs, prober, pulses, git)


def required(settings: Settings) -> None:
    """Raises Invalid when what every server needs is not set."""
    missing = [name for name in ("repo", "server") if getattr(settings, name) is None]
    if missing:
        words = "is not set: write it in the settings file, or give --{0} or RECONCILER_{1}"
        raise Invalid([Problem(name, 0, 0, words.format(name, name.upper())) for name in missing])


def site(settings: Settings) -> Site:
    """What plans depend on."""
    return Site(
        server=settings.server or "",
        nginx_image=settings.nginx_image,
        nginx_root=str(settings.state_dir / "nginx"),
        local_dir=str(settings.local_dir),
        network_pool=settings.network_pool,
        generation_port=settings.generation_port,
        host_generation_port=settings.host_generation_port,
        edge_name=settings.edge_name,
        host_name=settings.host_name,
        edge_ports=settings.edge_ports,
        edge_address=settings.edge_address,
        edge_shutdown_timeout=settings.edge_shutdown_timeout,
        host_listener=settings.host_listener,
    )


def git_settings(settings: Settings) -> GitSettings:
    """How the repository is reached."""
    status = settings.status if isinstance(settings.status, StatusSettings) else None
    return GitSettings(
        url=repository_url(settings.repo or ""),
        branch=settings.branch,
        ssh_key=settings.ssh_key,
        known_hosts=settings.known_hosts,
        token_file=settings.token_file,
        token_env=settings.token_env,
        ca_file=settings.ca_file,
        status=status is not None,
        status_url=repository_url(status.remote) if status is not None and status.remote else None,
        status_ssh_key=status.ssh_key if status is not None else None,
        status_token_file=status.token_file if status is not None else None,
        timeout_s=settings.git_timeout,
    )


def repository_url(text: str) -> str:
    """A path to a local repository as a URL; anything else as it is."""
    path = Path(text).expanduser()
    return path.resolve().as_uri() if path.is_absolute() or path.exists() else text  # a mount that is away is a path all the same


def policy(settings: Settings) -> Policy:
    """The server's policy file; without one nothing special is allowed. Raises Invalid."""
    if settings.policy is None:
        return Policy()
    try:
        return read_policy(str(settings.policy), settings.policy.read_bytes())
    except OSError as error:
        raise Invalid([Problem(str(settings.policy), 0, 0, f"cannot be read: {error.strerror}")]) from error


def _identity(journal: JournalPort) -> Identity:
    """This machine's random identity, made at the first start and kept for the machine that it was made on."""
    machine = hashlib.sha256(machine_id().encode()).hexdigest()[:16]
    words = (journal.read(IDENTITY_FILE) or b"").decode(errors="replace").split()
    if words[1:] == [machine]:
        return Identity(words[0])
    fresh = secrets.token_hex(8)
    journal.write(IDENTITY_FILE, f"{fresh} {machine}".encode())
    return Identity(fresh, copied_from=words[0] if words else None)
