"""What Docker's answers say of an image's bytes."""

from __future__ import annotations

import pytest

from reconciler.effects.docker_images import to_image

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("asked", "digests", "reference"),
    [
        ("nginx:1.30", [f"nginx@{DIGEST}"], f"nginx@{DIGEST}"),
        ("docker.io/library/nginx:1.30", [f"nginx@{DIGEST}"], f"nginx@{DIGEST}"),
        ("docker.io/bitnami/nginx", [f"bitnami/nginx@{DIGEST}"], f"bitnami/nginx@{DIGEST}"),
        (
            "registry.example:5000/web:1",
            [f"other/web@{OTHER}", f"registry.example:5000/web@{DIGEST}"],
            f"registry.example:5000/web@{DIGEST}",
        ),
        ("web:1", [f"other/web@{OTHER}"], "sha256:id"),
        ("web:1", [], "sha256:id"),
        (f"docker.io/library/nginx@{DIGEST}", [f"nginx@{OTHER}", f"nginx@{DIGEST}"], f"docker.io/library/nginx@{DIGEST}"),
    ],
)
def test_the_reference_names_the_bytes(asked: str, digests: list[str], reference: str) -> None:
    assert to_image(asked, {"Id": "sha256:id", "RepoDigests": digests}).reference == reference
