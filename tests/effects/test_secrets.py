"""Secrets: a change is noticed, nothing of their content is told."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from reconciler.effects.secrets import SecretsDirectory, machine_key
from reconciler.errors import Stalled
from reconciler.model.identity import ServiceKey

API = ServiceKey("shop", "prod", "api")
WEB = ServiceKey("shop", "prod", "web")
KEY = b"k" * 32


@pytest.fixture
def local(tmp_path: Path) -> Path:
    directory = tmp_path / "shop" / "prod" / "secrets"
    directory.mkdir(parents=True)
    (directory / "token").write_text("hunter2-hunter2\n")
    (directory / "cert").write_text("line one of it\nline two of it\n")
    return tmp_path


def digest(local: Path, *names: str, key: bytes = KEY) -> str:
    return SecretsDirectory(local, key).digests({API: names})["shop/prod/api"]


def test_the_same_files_give_the_same_digest_in_any_order(local: Path) -> None:
    assert digest(local, "token", "cert") == digest(local, "cert", "token")


def test_a_service_without_secrets_has_no_digest(local: Path) -> None:
    assert SecretsDirectory(local, KEY).digests({API: (), WEB: ("token",)}).keys() == {"shop/prod/web"}


def test_content_mode_and_presence_each_change_it(local: Path) -> None:
    path = local / "shop/prod/secrets/token"
    directory = SecretsDirectory(local, KEY)
    seen = [directory.digests({API: ("token",)})["shop/prod/api"]]
    path.write_text("hunter3-hunter3\n")
    seen.append(directory.digests({API: ("token",)})["shop/prod/api"])
    path.chmod(0o400)
    seen.append(directory.digests({API: ("token",)})["shop/prod/api"])
    path.unlink()
    seen.append(directory.digests({API: ("token",)})["shop/prod/api"])
    assert len(set(seen)) == 4


def test_a_file_replaced_by_rename_with_the_old_time_and_size_is_noticed(local: Path) -> None:
    path = local / "shop/prod/secrets/token"
    directory = SecretsDirectory(local, KEY)
    before = directory.digests({API: ("token",)})
    status = path.stat()
    new = path.with_name("new")
    new.write_text("hunter2-hunterX\n")
    new.chmod(stat.S_IMODE(status.st_mode))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(path)
    assert directory.digests({API: ("token",)}) != before


def test_a_file_rewritten_in_place_with_the_old_time_and_size_is_noticed(local: Path) -> None:
    path = local / "shop/prod/secrets/token"
    directory = SecretsDirectory(local, KEY)
    before = directory.digests({API: ("token",)})
    status = path.stat()
    path.write_text("hunter2-hunterX\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert directory.digests({API: ("token",)}) != before


def test_a_service_is_not_concerned_by_a_secret_that_it_does_not_name(local: Path) -> None:
    before = digest(local, "token")
    (local / "shop/prod/secrets/cert").write_text("another")
    assert digest(local, "token") == before


def test_without_the_key_a_guess_cannot_be_checked(local: Path) -> None:
    """FAULTS 55: a digest in a status commit must not confirm a guessed password."""
    assert digest(local, "token") != digest(local, "token", key=b"j" * 32)
    content = (local / "shop/prod/secrets/token").read_bytes()
    assert hashlib.sha256(content).hexdigest()[:32] not in digest(local, "token")


def test_missing_files_are_named(local: Path) -> None:
    wanted = {API: ("token", "absent", "other"), WEB: ("cert",)}
    assert SecretsDirectory(local, KEY).missing(wanted) == {"shop/prod/api": ("absent", "other")}
    assert SecretsDirectory(local / "nowhere", KEY).missing({WEB: ("cert",)}) == {"shop/prod/web": ("cert",)}


@pytest.mark.parametrize("name", ["", ".", "..", "../token", "a/b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(local: Path, name: str) -> None:
    """FAULTS 50."""
    with pytest.raises(Stalled, match="is not the name of a secret"):
        digest(local, name)


@pytest.mark.parametrize("link", ["/etc/hostname", "../../../outside"])
def test_a_link_out_of_the_directory_is_refused(local: Path, link: str) -> None:
    """FAULTS 49."""
    (local / "outside").write_text("not yours")
    (local / "shop/prod/secrets/link").symlink_to(link)
    with pytest.raises(Stalled, match="link out of its directory"):
        digest(local, "link")


def test_a_link_inside_the_directory_is_followed(local: Path) -> None:
    (local / "shop/prod/secrets/link").symlink_to("token")
    before = digest(local, "link")
    (local / "shop/prod/secrets/token").write_text("changed")
    assert digest(local, "link") != before


def test_what_is_not_a_regular_file_is_refused(local: Path) -> None:
    os.mkfifo(local / "shop/prod/secrets/pipe")
    with pytest.raises(Stalled, match="not a regular file"):
        digest(local, "pipe")


def test_a_log_loses_the_secrets_line_by_line(local: Path) -> None:
    """FAULTS 55."""
    directory = SecretsDirectory(local, KEY)
    lines = ("login with hunter2-hunter2 failed", "cert: line two of it", "fine")
    assert directory.redact(API, ("token", "cert"), lines) == ("login with [secret] failed", "cert: [secret]", "fine")


def test_neither_key_nor_content_shows_in_the_object(local: Path) -> None:
    directory = SecretsDirectory(local, KEY)
    directory.digests({API: ("token",)})
    assert "hunter2" not in repr(directory) and "kkkk" not in repr(directory)


def test_the_machine_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = machine_key(path)
    assert machine_key(path) == key and len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert machine_key(tmp_path / "other") != key


def test_a_damaged_machine_key_stalls(tmp_path: Path) -> None:
    """FAULTS 4: a zero-length file after a power loss."""
    (tmp_path / "key").touch()
    with pytest.raises(Stalled, match="has 0 bytes"):
        machine_key(tmp_path / "key")
