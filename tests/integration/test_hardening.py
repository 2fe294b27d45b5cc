"""The daemon under what its systemd unit leaves it of root's rights: a deployment, a toggle and a repair go well."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.kill_rig import Patient, clients
from tests.integration.program import ENTRY, Program
from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`
from tests.test_systemd import capabilities
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SOMEBODY = 12345
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'
"""`ProtectSystem=strict`, with the state directory and the repository beside it as the only writable place."""


def test_with_the_units_capabilities_on_a_read_only_system_it_deploys_toggles_heals_and_ends(server: Server) -> None:
    """The capabilities, no_new_privs and ProtectSystem of systemd/reconciler.service. Its filters of system calls are not set."""
    secret = server.write_secret("token", "first")
    secret.chmod(0o600)
    os.chown(secret, SOMEBODY, SOMEBODY)
    patient = Patient(server, secrets=("token",))
    bounds = "-all," + ",".join(f"+{name.lower()}" for name in capabilities())
    entry = (
        *("unshare", "--mount", "--", "sh", "-c", READ_ONLY, "sh", str(server.directory)),
        *("setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", "--"),
        *ENTRY,
    )
    with Program(server, "run", entry=entry) as program:
        _live(patient, patient.commit(), program)
        status = Path(f"/proc/{program.pid}/status").read_text()
        effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
        assert effective.bit_count() == len(capabilities()) and "NoNewPrivs:\t1" in status
        with clients(server, wanted=20):
            _live(patient, patient.commit(), program)
            new = server.directory / "second"
            new.write_text("second")
            new.chmod(0o600)
            os.chown(new, SOMEBODY, SOMEBODY)
            new.replace(secret)  # written in place, it would be empty for a moment, and that would be a change of its own
            eventually(lambda: set(server.ours()) >= {"web", "web_sidecar"}, 60, lambda: program.said)
            _live(patient, str(patient.version), program)
        server.container("web").remove(force=True)
        _live(patient, str(patient.version), program)
        for complaint in ("Permission denied", "Operation not permitted", "Read-only"):
            assert complaint not in program.said + server.conditions()
        program.signal(signal.SIGTERM)
        assert program.wait(30) == 0


def _live(patient: Patient, version: str, program: Program) -> None:
    eventually(lambda: patient.is_converged(version), 90, lambda: f"{version}; it said:\n{program.said[-4000:]}")
