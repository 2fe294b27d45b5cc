"""The real Docker Engine of the integration tests, for the contract of its fake."""

from tests.integration.conftest import docker_client, images, scope

__all__ = ["docker_client", "images", "scope"]
