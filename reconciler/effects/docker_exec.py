"""A command inside a container with a real time limit, and a container's output."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable

import docker.errors

from reconciler.effects.docker_api import DockerApi, explain, plain_lines, short
from reconciler.errors import Transient

TIMED_OUT = 124  # the exit code that `timeout` uses
_OUTPUT_BYTES = 64 * 1024
_OUTPUT_LINES = 20


class Exec:
    """Commands in containers of one daemon on this machine."""

    def __init__(self, api: DockerApi) -> None:
        self._api = api

    def exec(self, name: str, argv: tuple[str, ...], timeout: float) -> tuple[int, str]:
        """Run `argv` in the container. Returns its exit code and its output's last lines; code 124 when `timeout` s had passed.

        Its process is killed then. Raises Transient when the container does not run.
        """
        limit = max(1, min(self._api.call_seconds, round(timeout) + 1))
        with self._api.call("exec", f"run a command in {name}", seconds=limit) as client:
            try:
                identity = str(client.exec_create(name, list(argv))["Id"])
            except docker.errors.APIError as error:
                raise Transient(f"no command can be run in {name}: {explain(error)}") from error
        output = bytearray()
        # In a thread of its own: the client waits for output without a limit, and only the end of the process ends that.
        reader = threading.Thread(target=self._read, args=(identity, output), daemon=True, name=f"exec-{name}")
        reader.start()
        reader.join(timeout)
        with self._api.call("exec", f"say how a command in {name} ended", seconds=limit) as client:
            state = client.exec_inspect(identity)
        if state.get("Running") or reader.is_alive():
            _kill(int(state.get("Pid") or 0))
            return TIMED_OUT, f"no end within {timeout:g} s"
        code = state.get("ExitCode")
        return (1 if code is None else int(code)), "\n".join(plain_lines(bytes(output), _OUTPUT_LINES))

    def logs(self, identity: str, tail: int = 20) -> tuple[str, ...]:
        """The last lines that a container wrote, harmless to print; empty when it is gone or its log cannot be read."""
        with self._api.call("logs", f"read the output of container {short(identity)}") as client:
            try:
                output: bytes = client.logs(identity, stdout=True, stderr=True, tail=tail)
            except docker.errors.APIError:
                return ()
        return plain_lines(output, tail)

    def _read(self, identity: str, output: bytearray) -> None:
        try:
            with self._api.call("exec", "run a command") as client:
                chunks: Iterable[bytes] = client.exec_start(identity, stream=True)
                for chunk in chunks:
                    output += chunk
                    del output[:-_OUTPUT_BYTES]
        except Transient as error:
            output += str(error).encode()


def _kill(pid: int) -> None:
    if pid > 1:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            return
