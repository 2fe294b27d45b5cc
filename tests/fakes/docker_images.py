"""The part of the simulated `DockerPort` that concerns images; and each call's way to the simulated dockerd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from reconciler.errors import ReconcilerError, Stalled, Transient
from reconciler.model.observed import Image
from tests.fakes.docker_engine import Engine, Stored


class FakeImages:
    """One daemon's images, as one server sees them."""

    def __init__(self, engine: Engine, server: str) -> None:
        self.engine = engine
        self.server = server

    def image(self, reference: str) -> Image | None:
        """The image, None when it is not here."""
        with self._call("image", reference):
            stored = self.engine.images.get(reference)
            return _image(stored) if stored is not None else None

    def pull(self, reference: str) -> Image:
        """Fetch an image."""
        with self._call("pull", reference):
            found = self.engine.registry.get(reference, Transient(f"image {reference} cannot be fetched"))
            if isinstance(found, ReconcilerError):
                raise found
            self.engine.writes += 1
            self.engine.images[reference] = found
            return _image(found)

    def build(self, tag: str, context: Mapping[str, tuple[int, bytes]], dockerfile: str, seconds: float = 900.0) -> tuple[str, ...]:
        """Build an image."""
        with self._call("build", tag):
            if dockerfile not in context:
                raise Stalled(f"build of {tag} failed: no {dockerfile}", reason="BuildFailed")
            built = self.engine.builds(tag, self.server)
            if isinstance(built, ReconcilerError):
                raise built
            self.engine.writes += 1
            self.engine.images[tag] = built
            return (f"Successfully tagged {tag}",)

    def remove_unused_images(self, keep: frozenset[str]) -> tuple[str, ...]:
        """Remove images that this program built, that no container uses and whose tag and id are not in `keep`."""
        with self._call("images", ""):
            used = {box.image_id for box in self.engine.boxes.values()}
            mine = {tag: stored for tag, stored in self.engine.images.items() if stored.built_by == self.server}
            kept = {stored.id for tag, stored in mine.items() if tag in keep or stored.id in keep or stored.id in used}
            gone = {tag: stored.id for tag, stored in mine.items() if stored.id not in kept}
            for tag in gone:
                self.engine.writes += 1
                del self.engine.images[tag]
            return tuple(sorted(set(gone.values())))

    @contextmanager
    def _call(self, verb: str, subject: str) -> Iterator[None]:
        """A call: what is due has happened, and whoever watches may let it fail before, or after it was carried out."""
        self.engine.settle()
        self.engine.watch("before", verb, subject)
        yield
        self.engine.watch("after", verb, subject)


def _image(stored: Stored) -> Image:
    return Image(id=stored.id, reference=stored.reference, volumes=stored.volumes, exposed=stored.exposed)
