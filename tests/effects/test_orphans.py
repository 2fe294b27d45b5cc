"""What a container that Docker has lost sight of still runs is ended, by its control group, and nothing else is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from reconciler.effects.orphans import end_processes

OURS, OTHER = "a1" * 32, "b2" * 32
GROUPS = {
    "version 2": "0::/docker/{}\n",
    "version 1": "12:pids:/docker/{0}\n11:cpu,cpuacct:/docker/{0}\n0::/\n",
    "by systemd": "0::/system.slice/docker-{}.scope\n",
    "below another group": "0::/user.slice/session/docker/{}\n",
}


class Machine:
    """Processes that do nothing, with the control groups that a /proc of the test says they have."""

    def __init__(self, proc: Path, stack: ExitStack) -> None:
        self.proc = proc
        self._stack = stack

    def process(self, group: str) -> subprocess.Popen[bytes]:
        """A process in that group."""
        made = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        self._stack.callback(made.wait, 20)
        self._stack.callback(made.kill)
        self.says(made.pid, group)
        return made

    def says(self, pid: int, group: str) -> None:
        """What /proc has of it."""
        directory = self.proc / str(pid)
        directory.mkdir()
        (directory / "cgroup").write_text(group)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield Machine(tmp_path, stack)


@pytest.mark.parametrize("written", GROUPS.values(), ids=GROUPS)
def test_every_process_of_the_container_is_killed_and_counted(machine: Machine, written: str) -> None:
    ours = [machine.process(written.format(OURS)) for _ in range(2)]
    other = machine.process(written.format(OTHER))
    assert end_processes(OURS, machine.proc) == 2
    assert [process.wait(20) for process in ours] == [-signal.SIGKILL] * 2
    assert other.poll() is None


def test_what_the_container_has_put_into_groups_of_its_own_goes_with_it(machine: Machine) -> None:
    """An init system in it, or containers in a container: they use its volumes as well."""
    nested = [machine.process(f"0::/docker/{OURS}/{below}\n") for below in ("init.scope", f"docker/{OTHER}")]
    assert end_processes(OURS, machine.proc) == 2
    assert [process.wait(20) for process in nested] == [-signal.SIGKILL] * 2


def test_what_ends_by_itself_meanwhile_and_what_is_no_process_is_passed_over(machine: Machine) -> None:
    gone = machine.process(f"0::/docker/{OURS}\n")
    gone.kill()
    gone.wait(20)
    (machine.proc / str(2**22 + 1)).mkdir()  # its file cannot be read any more
    (machine.proc / "self").mkdir()
    (machine.proc / "self/cgroup").write_text(f"0::/docker/{OURS}\n")
    ours = machine.process(f"0::/docker/{OURS}\n")
    assert end_processes(OURS, machine.proc) == 1
    assert ours.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("identity", ["", "a", OURS[:12]])
def test_less_than_a_whole_id_ends_nothing(machine: Machine, identity: str) -> None:
    ours = machine.process(f"0::/docker/{OURS}\n")
    with pytest.raises(ValueError, match="whole id"):
        end_processes(identity, machine.proc)
    assert ours.poll() is None
