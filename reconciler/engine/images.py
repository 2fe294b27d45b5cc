"""What is known of images on this server, and the background jobs that bring them about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.engine.ports import DockerPort, GitPort, JobsPort
from reconciler.errors import ReconcilerError, Transient
from reconciler.model.action import PrepareImage
from reconciler.model.observed import Image, ImageState

JOB = "image:"


@dataclass(frozen=True)
class Found:
    """An image that is here; `unasked` says why its registry could not tell what the tag means now."""

    image: Image
    unasked: str | None = None


class Images:
    """Images by the reference that was asked for. The next rollout asks again, and so does who finds one gone."""

    def __init__(self, docker: DockerPort, git: GitPort, jobs: JobsPort) -> None:
        self._docker = docker
        self._git = git
        self._jobs = jobs
        self._states: dict[str, ImageState] = {}

    def states(self) -> Mapping[str, ImageState]:
        """For `Observed.images`."""
        return dict(self._states)

    def prepare(self, action: PrepareImage) -> None:
        """Start the job. One image is pulled or built at a time; an image that is here already is a short job."""
        before = self._states.get(action.reference)
        again = before is not None and before.status == "failed" and before.attempt == action.attempt
        self._states[action.reference] = ImageState(
            status="preparing",
            error=before.error if before is not None and again else None,
            attempt=action.attempt,
            failures=before.failures if before is not None and again else 0,
        )
        self._jobs.submit(JOB + action.reference, lambda: self._bring(action), lane="images")

    def finished(self, reference: str, result: object) -> None:
        """Take the result of a job."""
        if isinstance(result, Found):
            self._states[reference] = ImageState(
                status="present", image=result.image, attempt=self._states[reference].attempt, unasked=result.unasked
            )
            return
        transient = not isinstance(result, ReconcilerError) or isinstance(result, Transient)
        lines = tuple(str(result).splitlines())
        asked = self._states[reference]
        self._states[reference] = ImageState(
            status="failed",
            error=lines[0] if lines else "failed",
            attempt=asked.attempt,
            failures=asked.failures + 1,
            transient=transient,
            log=lines[1:],
        )

    def forget(self, reference: str | None = None) -> None:
        """Ask Docker again before the next use: for one reference, or for all that were present."""
        for known in [reference] if reference is not None else list(self._states):
            state = self._states.get(known)
            if state is not None and state.status == "present":
                del self._states[known]

    def _bring(self, action: PrepareImage) -> Found:
        here = self._docker.image(action.reference)
        if action.build is None:
            return self._tagged(action, here)
        if here is None:
            self._docker.build(action.reference, self._git.context(action.build), action.build.dockerfile)
            here = self._docker.image(action.reference)
        if here is None:
            raise Transient(f"image {action.reference} was built and is not there")
        return Found(here)

    def _tagged(self, action: PrepareImage, here: Image | None) -> Found:
        """A rollout asks the registry what its tag means now, unless the image never came from one."""
        if here is not None and not (action.attempt and _came_from_registry(here) and "@" not in action.reference):
            return Found(here)
        try:
            return Found(self._docker.pull(action.reference))
        except Transient as error:
            if here is None:
                raise
            # A revert has to work while the registry is away.
            return Found(here, str(error))


def _came_from_registry(image: Image) -> bool:
    return "@" in image.reference
