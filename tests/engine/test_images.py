"""Bringing images about: who is asked for what, what is kept of a failure, and what the next rollout asks again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.engine.images import JOB, Images
from reconciler.engine.repository import Repository
from reconciler.errors import ReconcilerError, Stalled, Transient
from reconciler.model.action import PrepareImage
from reconciler.model.desired import Build
from reconciler.model.observed import ImageState
from tests.company.virtual import VirtualJobs, VirtualTime
from tests.fakes.docker import FakeDocker
from tests.fakes.docker_engine import Engine, Stored, image
from tests.fakes.git import FakeGit
from tests.fakes.git_host import Host

TAG = "registry.example/web:1"


class Ground:
    """Images of one server. `calls`: what its Docker was asked for, without mere looking."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.engine = Engine(self.time.monotonic)
        self.calls: list[str] = []
        self.engine.watch = self._called
        self.host = Host()
        self.git = FakeGit(self.host)
        self.jobs = VirtualJobs(self.time, lambda name: 3.0, lambda: None)
        self.images = Images(FakeDocker(self.engine, "a"), Repository(self.git, "a"), self.jobs)

    def prepare(self, reference: str = TAG, attempt: str = "", build: Build | None = None) -> ImageState:
        """Ask, and take the result."""
        self.images.prepare(PrepareImage(reference=reference, attempt=attempt, build=build, cause="test"))
        return self.taken()[reference]

    def taken(self) -> Mapping[str, ImageState]:
        """The states when every job has ended."""
        while not self.time.run(lambda: not any(map(self.jobs.running, self._names())), 60):
            raise AssertionError("a job does not end")
        return self.images.states()

    def build(self, files: Mapping[str, bytes]) -> Build:
        """A context of the config repository, as its desired state names it."""
        self.host.commit({f"projects/shop/{path}": data for path, data in files.items()}, "context")
        tree = self.git.read_tree(self.git.fetch().config)
        listed = tuple((path.removeprefix("projects/shop/"), entry.mode, entry.oid) for path, entry in sorted(tree.items()))
        return Build(context="projects/shop", dockerfile="Dockerfile.web", tree="77fe", files=listed)

    def pulled(self, meaning: Stored | ReconcilerError, reference: str = TAG) -> None:
        """What the registry answers from now on."""
        self.engine.registry[reference] = meaning

    def _names(self) -> list[str]:
        for name, result in self.jobs.take():
            self.images.finished(name.removeprefix(JOB), result)
        return [JOB + reference for reference in self.images.states()]

    def _called(self, when: str, verb: str, subject: str) -> None:
        if when == "before" and verb != "image":
            self.calls.append(f"{verb} {subject}")


@pytest.fixture
def ground() -> Ground:
    return Ground()


def from_registry(meaning: str) -> Stored:
    return Stored(id=meaning, reference=f"registry.example/web@sha256:{meaning}")


def test_what_is_here_and_never_came_from_a_registry_is_taken_as_it_is(ground: Ground) -> None:
    ground.engine.images[TAG] = image(TAG)
    state = ground.prepare(attempt="shop/prod/web@1")
    assert state.status == "present" and state.image is not None and state.attempt == "shop/prod/web@1"
    assert ground.calls == []


def test_what_is_not_here_is_pulled_in_the_background_and_known_once_its_result_is_taken(ground: Ground) -> None:
    ground.pulled(from_registry("aa"))
    ground.images.prepare(PrepareImage(reference=TAG, cause="test"))
    assert ground.images.states()[TAG].status == "preparing" and ground.calls == []
    state = ground.taken()[TAG]
    assert state.image is not None and state.image.reference.endswith("@sha256:aa") and ground.calls == [f"pull {TAG}"]


def test_each_rollout_asks_what_a_tag_means_now_and_healing_does_not(ground: Ground) -> None:
    ground.pulled(from_registry("aa"))
    ground.prepare(attempt="web@1")
    ground.pulled(from_registry("bb"))
    healed = ground.prepare(attempt="")
    assert healed.image is not None and healed.image.id == "aa"
    rolled = ground.prepare(attempt="web@2")
    assert rolled.image is not None and rolled.image.id == "bb"
    assert ground.calls == [f"pull {TAG}"] * 2


def test_a_digest_means_the_same_for_ever_and_is_asked_for_once(ground: Ground) -> None:
    fixed = "registry.example/web@sha256:aa"
    ground.pulled(from_registry("aa"), fixed)
    ground.prepare(fixed, "web@1")
    assert ground.prepare(fixed, "web@2").status == "present"
    assert ground.calls == [f"pull {fixed}"]


def test_a_registry_that_is_away_stops_no_rollout_of_what_is_here_and_says_so(ground: Ground) -> None:
    ground.pulled(from_registry("aa"))
    ground.prepare(attempt="web@1")
    ground.pulled(Transient("registry.example does not answer"))
    state = ground.prepare(attempt="web@2")
    assert state.status == "present" and state.image is not None and state.image.id == "aa"
    assert state.unasked == "registry.example does not answer"


def test_a_failure_counts_within_its_attempt_and_keeps_its_words_while_it_is_tried_again(ground: Ground) -> None:
    ground.pulled(Transient("the registry is away\nline two\nline three"))
    first = ground.prepare(attempt="web@1")
    assert (first.status, first.error, first.log, first.failures, first.transient) == (
        "failed",
        "the registry is away",
        ("line two", "line three"),
        1,
        True,
    )
    ground.images.prepare(PrepareImage(reference=TAG, attempt="web@1", cause="test"))
    again = ground.images.states()[TAG]
    assert (again.status, again.error, again.failures) == ("preparing", "the registry is away", 1)
    assert ground.taken()[TAG].failures == 2
    ground.images.prepare(PrepareImage(reference=TAG, attempt="web@2", cause="test"))
    other = ground.images.states()[TAG]
    assert (other.error, other.failures) == (None, 0), "another rollout begins anew"
    assert ground.taken()[TAG].failures == 1


def test_what_a_person_has_to_mend_is_told_from_what_passes_by_itself(ground: Ground) -> None:
    ground.pulled(Stalled("registry.example wants a login", reason="PullDenied"))
    assert not ground.prepare().transient


def test_a_build_gets_its_context_once_and_is_not_repeated_while_its_tag_is_here(ground: Ground) -> None:
    build = ground.build({"Dockerfile.web": b"FROM base\n", "app.py": b"print()\n"})
    state = ground.prepare(build.tag, "web@1", build)
    assert state.status == "present" and state.image is not None
    assert ground.prepare(build.tag, "web@2", build).status == "present"
    assert ground.calls == [f"build {build.tag}"], "the same tree is the same image: nothing to ask for"


def test_a_build_that_fails_is_for_a_person_and_tells_its_last_lines(ground: Ground) -> None:
    build = ground.build({"Dockerfile.web": b"FROM base\nRUN false\n"})
    ground.engine.builds = lambda tag, server: Stalled(f"build of {tag} failed\nRUN false\nexit 1", reason="BuildFailed")
    state = ground.prepare(build.tag, "web@1", build)
    assert (state.status, state.transient, state.log) == ("failed", False, ("RUN false", "exit 1"))


def test_a_build_whose_image_is_gone_at_once_is_tried_again(ground: Ground) -> None:
    build = ground.build({"Dockerfile.web": b"FROM base\n"})

    def vanishes(when: str, verb: str, subject: str) -> None:
        if (when, verb) == ("after", "build"):
            del ground.engine.images[subject]

    ground.engine.watch = vanishes
    state = ground.prepare(build.tag, "web@1", build)
    assert state.status == "failed" and state.transient and state.error is not None and "is not there" in state.error


def test_an_error_without_words_is_a_failure_too(ground: Ground) -> None:
    def dies(when: str, verb: str, subject: str) -> None:
        raise RuntimeError

    ground.engine.watch = dies
    state = ground.prepare()
    assert (state.status, state.error, state.transient) == ("failed", "failed", True)


def test_one_that_is_found_gone_is_asked_for_again_and_a_failure_is_not_forgotten_with_it(ground: Ground) -> None:
    ground.engine.images[TAG] = image(TAG)
    ground.prepare()
    ground.prepare("registry.example/other:1")
    ground.images.forget(TAG)
    assert set(ground.images.states()) == {"registry.example/other:1"}
    ground.prepare()
    ground.images.forget()
    assert {reference: state.status for reference, state in ground.images.states().items()} == {
        "registry.example/other:1": "failed"
    }
