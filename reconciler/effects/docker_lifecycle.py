"""Create, start, stop and remove containers of ours. Every call may be repeated after a crash (FAULTS 13, 14, 16)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final

import docker.errors

from reconciler.effects.docker_api import DockerApi, explain, short
from reconciler.effects.docker_create import create_config, unnamed_volumes
from reconciler.effects.docker_list import Listing
from reconciler.effects.docker_shape import Support, expected_shape
from reconciler.effects.orphans import end_processes
from reconciler.errors import Stalled, Transient
from reconciler.model.container import ContainerPlan
from reconciler.model.observed import Image

_GONE_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.05
_PORT_TAKEN: Final = ("port is already allocated", "address already in use")


class Lifecycle:
    """The writes on containers of one server."""

    def __init__(self, api: DockerApi, listing: Listing) -> None:
        self._api = api
        self._listing = listing
        self._support: Support | None = None

    def create(self, plan: ContainerPlan, image: Image | None) -> str:
        """Create the container, without starting it, and return its id.

        What a killed attempt left under the same name is adopted when it is the same by all its labels, else removed.
        Raises Stalled (`UnnamedVolume`, `ForeignContainer`, `MountSource`, `CreateFailed`) and Transient.
        """
        if image is None:
            raise Transient(f"container {plan.name} needs image {plan.image}, which is not here: pull or build it first")
        unnamed = unnamed_volumes(plan, image.volumes)
        if unnamed and plan.image_volumes == "refuse":
            raise Stalled(
                f"image {plan.image} of {plan.name} keeps data in {', '.join(unnamed)}: name each under `volumes`, "
                "such as `volumes: {data: " + unnamed[0] + "}`, or say `stateless: true` when the data may go",
                reason="UnnamedVolume",
            )
        identity = self._create(plan, unnamed)
        if identity is None:
            identity = self._settle_conflict(plan) or self._create(plan, unnamed)
        if identity is None:
            raise Transient(f"the name {plan.name} is still taken: trying again", retry_after=2.0)
        return identity

    def start(self, identity: str) -> None:
        """Start it; nothing happens when it runs. Raises Transient (`port is taken` among them) or Stalled (`StartFailed`)."""
        with self._api.call("start", f"start container {short(identity)}") as client:
            try:
                client.start(identity)
            except docker.errors.NotFound as error:
                if "no such container: " + identity in explain(error).lower():
                    raise Transient(f"container {short(identity)} is gone: it is made again in the next pass") from error
                raise _start_failure(identity, error) from error
            except docker.errors.APIError as error:
                failure = _start_failure(identity, error)
                if _half_started(failure) and (whole := self._never_ran(identity)) is not None:
                    # What never ran loses nothing by being made anew.
                    end_processes(whole)
                    self.remove(whole)
                    raise Transient(f"{failure}; it is made anew") from error
                raise failure from error
        self._listing.invalidate(identity)

    def _never_ran(self, identity: str) -> str | None:
        """The whole id of a container that was never started; None for any other. `identity` may be a name."""
        found = self.inspect(identity)
        return str(found["Id"]) if found is not None and found["State"].get("Status") == "created" else None

    def unpause(self, identity: str) -> None:
        """Let a frozen container go on; nothing happens when it is not frozen or gone."""
        with self._api.call("unpause", f"unpause container {short(identity)}") as client:
            try:
                client.unpause(identity)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409) and "not paused" not in explain(error):
                    raise
        self._listing.invalidate(identity)

    def stop(self, identity: str, signal: str | None = None, grace: float = 10.0) -> int | None:
        """Signal (its own stop signal when None), wait `grace` seconds, SIGKILL. Returns the exit code, None when it is gone.

        A container that is stopped already is left alone. Raises Transient.
        """
        seconds = max(0, math.ceil(grace))
        if signal is not None and self._signalled(identity, signal):
            self._wait(identity, grace)
            seconds = 0
        with self._api.call("stop", f"stop container {short(identity)}") as client:
            try:
                client.stop(identity, timeout=seconds)
            except docker.errors.NotFound:
                return None
            except docker.errors.APIError as error:
                if "removal" not in explain(error):
                    raise
        self._listing.invalidate(identity)
        found = self.inspect(identity)
        return None if found is None else int(found["State"].get("ExitCode") or 0)

    def kill(self, identity: str, signal: str | None) -> None:
        """Send a signal through Docker; nothing happens when it does not run.

        Docker takes SIGKILL and a container's own stop signal (any signal, if it has none of its own) for the wish to stop it: its
        restart policy then does not start it again. For a reload send SIGHUP to `pid(name)` instead.
        """
        if signal is None:
            found = self.inspect(identity)
            signal = (found["Config"].get("StopSignal") if found is not None else None) or "SIGTERM"
        self._signalled(identity, signal)
        self._listing.invalidate(identity)

    def remove(self, identity: str) -> None:
        """Remove a stopped container of ours and wait until it is gone; never its volumes. Nothing happens when it is gone.

        Raises Stalled (`ForeignContainer`) without our labels, Transient when it runs or its removal hangs.
        """
        if not self._listing.is_ours(identity):
            found = self.inspect(identity)
            if found is None:
                return
            if self._listing.own_labels(found["Config"].get("Labels") or {}) is None:
                name = str(found["Name"]).lstrip("/")
                raise Stalled(f"container {name} is not this server's: it is never removed", reason="ForeignContainer")
        with self._api.call("remove", f"remove container {short(identity)}") as client:
            try:
                client.remove_container(identity, v=False, force=False)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                words = explain(error)
                if error.status_code != 409 or "running" in words or "paused" in words:
                    raise Transient(f"container {short(identity)} is not removed: {words}", retry_after=2.0) from error
        deadline = time.monotonic() + _GONE_SECONDS
        while self.inspect(identity) is not None:
            if time.monotonic() > deadline:
                raise Transient(f"container {short(identity)} is still being removed after {_GONE_SECONDS:.0f} s", retry_after=5.0)
            time.sleep(_POLL_SECONDS)
        self._listing.invalidate(identity)

    def inspect(self, identity: str) -> Mapping[str, Any] | None:
        """Docker's inspect by id or name, None when there is no such container."""
        with self._api.call("inspect", f"inspect container {identity}") as client:
            try:
                found: Mapping[str, Any] = client.inspect_container(identity)
            except docker.errors.NotFound:
                return None
        return found

    def supported(self) -> Support:
        """Which limits the daemon can enforce, asked once."""
        if self._support is None:
            with self._api.call("info", "say what it supports") as client:
                self._support = Support.of(client.info())
        return self._support

    def _create(self, plan: ContainerPlan, tmpfs: tuple[str, ...]) -> str | None:
        """The id; None when the name is taken."""
        namespace = self._namespace_id(plan)
        shape = expected_shape(plan, self.supported())
        with self._api.call("create", f"create container {plan.name}") as client:
            try:
                config = create_config(client, plan, shape, namespace, tmpfs)
                created = client.create_container_from_config(config, plan.name)  # type: ignore[no-untyped-call]
            except docker.errors.APIError as error:
                if error.status_code == 409 and "name" in explain(error):
                    return None
                raise _create_failure(plan, error) from error
        return str(created["Id"])

    def _namespace_id(self, plan: ContainerPlan) -> str | None:
        if plan.namespace_of is None:
            return None
        # By id, so that a container that later takes the name is never joined in its stead.
        owner = self.inspect(plan.namespace_of)
        if owner is None or self._listing.own_labels(owner["Config"].get("Labels") or {}) is None:
            raise Transient(f"{plan.name} is to join the network of {plan.namespace_of}, which is not there: it is made first")
        return str(owner["Id"])

    def _settle_conflict(self, plan: ContainerPlan) -> str | None:
        """The id of what is adopted; None when the way is free now. By labels, never by name alone (FAULTS 14)."""
        found = self.inspect(plan.name)
        if found is None:
            return None
        labels = self._listing.own_labels(found["Config"].get("Labels") or {})
        if labels is None or (labels.instance, labels.role) != (plan.labels.instance, plan.labels.role):
            raise Stalled(
                f"the name {plan.name} is taken by a container that is not the reconciler's (image {found['Config'].get('Image')}, "
                f"id {str(found['Id'])[:12]}): rename or remove it",
                reason="ForeignContainer",
            )
        status = found["State"]["Status"]
        same = labels == plan.labels and found["Config"].get("Image") == plan.image and self._same_namespace(plan, found)
        if same and status in ("created", "running"):
            return str(found["Id"])
        if status in ("running", "paused", "restarting"):
            raise Transient(f"{plan.name} runs already from another plan ({labels.spec or 'no spec'}): the next pass looks again")
        self.remove(str(found["Id"]))
        return None

    def _same_namespace(self, plan: ContainerPlan, found: Mapping[str, Any]) -> bool:
        namespace = self._namespace_id(plan)
        return namespace is None or found["HostConfig"].get("NetworkMode") == f"container:{namespace}"

    def _signalled(self, identity: str, signal: str) -> bool:
        with self._api.call("kill", f"send {signal} to container {short(identity)}") as client:
            try:
                client.kill(identity, signal)
            except docker.errors.APIError as error:
                words = explain(error).lower()
                if error.status_code in (404, 409) or "not running" in words:
                    return False
                if "invalid signal" in words:
                    raise Stalled(f"Docker knows no signal {signal}: name one such as SIGTERM", reason="StopSignal") from error
                raise
        return True

    def _wait(self, identity: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.inspect(identity)
            if found is None or not found["State"].get("Running"):
                return
            time.sleep(_POLL_SECONDS)


def _create_failure(plan: ContainerPlan, error: docker.errors.APIError) -> Exception:
    words = explain(error)
    lower = words.lower()
    if "bind source path does not exist" in lower:
        return Stalled(f"{plan.name} mounts a path that is not on this server ({words}): create it first", reason="MountSource")
    if "no such image" in lower:
        return Transient(f"{plan.name} needs image {plan.image}, which is not here: pull or build it first")
    if "removal" in lower and "progress" in lower:
        return Transient(f"{plan.name}: its predecessor is still being removed", retry_after=2.0)
    if error.status_code is not None and 400 <= error.status_code < 500 and error.status_code != 404:
        return Stalled(f"Docker cannot create {plan.name}: {words}", reason="CreateFailed")
    return Transient(f"Docker cannot create {plan.name} now: {words}")


def _half_started(failure: Exception) -> bool:
    """Whether containerd or runc knows a container that Docker takes for a new one; then no start of it ever succeeds.

    That is what a dockerd leaves that ends during a start (seen with 20.10, under `live-restore`).
    """
    return isinstance(failure, Transient) and str(failure).endswith((": already exists", ": id already in use"))


def _start_failure(identity: str, error: docker.errors.APIError) -> Exception:
    words = explain(error)
    lower = words.lower()
    if any(phrase in lower for phrase in _PORT_TAKEN):
        return Transient(f"container {short(identity)} cannot start, its port or address is taken: {words}", retry_after=2.0)
    if error.status_code == 400 or "oci runtime create failed" in lower:
        return Stalled(f"container {short(identity)} cannot start: {words}: correct its image or command", reason="StartFailed")
    return Transient(f"container {short(identity)} cannot start now: {words}")
