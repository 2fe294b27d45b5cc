"""What is observed of secrets: those of the config's version, and those of a live version that names others."""

from __future__ import annotations

from pathlib import Path

from reconciler.effects.secrets import SecretsDirectory
from reconciler.engine.observing import Observer
from reconciler.model.desired import DesiredService
from reconciler.model.observed import Observed
from reconciler.model.site import Site
from tests.company.standins import MemoryDocker, MemoryNginx, TimedProber
from tests.plan.build import key, service, story


def observed(directory: Path, live: DesiredService, newer: DesiredService) -> Observed:
    """On a server where `live` runs and the config names `newer`, which is suspended."""
    told = story(live).commit(newer.model_copy(update={"suspend": True}), revision=2).settle()
    secrets = SecretsDirectory(directory, b"k" * 32)
    site = Site(server="a", nginx_image="nginx", nginx_root="/nginx", host_listener=False)
    observer = Observer(MemoryDocker(), MemoryNginx(), TimedProber(lambda: 0.0, 1.0), secrets, site)
    return observer.observe(told.want, told.cluster, {}, {}, {}, {})


def test_each_version_is_asked_for_the_secrets_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "shop/prod/secrets").mkdir(parents=True)
    (tmp_path / "shop/prod/secrets/old").write_text("one")
    found = observed(tmp_path, service(secrets=("old",)), service(digest="x2", secrets=("new",)))
    assert found.local(key(), "x1") not in (None, "", found.local(key(), "x2"))
    assert (found.missing(key(), "x1"), found.missing(key(), "x2")) == ((), ("new",))


def test_a_live_version_without_secrets_has_none_although_the_config_names_some(tmp_path: Path) -> None:
    found = observed(tmp_path, service(), service(digest="x2", secrets=("new",)))
    assert (found.local(key(), "x1"), found.missing(key(), "x1")) == ("", ())
