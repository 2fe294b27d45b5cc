"""The units and their installation, as far as that can be seen without systemd as the first process."""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from reconciler.engine.settings import read_settings

SYSTEMD = Path(__file__).resolve().parents[1] / "systemd"
SERVICES = ("reconciler.service", "reconciler-once.service")
UNITS = (*SERVICES, "reconciler-once.timer")
HARDENING = "# --- Hardening."
NEWER = ("RestartSteps", "RestartMaxDelaySec")
"""Known to systemd 254 and newer; the unit says that older ones ignore them."""


@pytest.mark.parametrize("name", SERVICES)
def test_every_line_of_the_hardening_states_its_reason(name: str) -> None:
    block = _hardening(name)
    lines = block.splitlines()
    options = [number for number, line in enumerate(lines) if re.match(r"[A-Z]\w+=", line)]
    assert len(options) > 20
    for number in options:
        assert lines[number - 1].startswith("# "), f"{name}: {lines[number]} has no reason above it"


def test_both_services_are_hardened_alike() -> None:
    one, other = (_hardening(name) for name in SERVICES)
    assert one == other


def test_each_capability_has_its_reason() -> None:
    block = _hardening("reconciler.service")
    for capability in capabilities():
        assert re.search(rf"^# {capability}: .{{20,}}", block, re.MULTILINE), capability


@pytest.mark.parametrize("name", UNITS)
def test_daemon_and_timer_exclude_each_other(name: str) -> None:
    conflicts = _unit(name)["Unit"]["Conflicts"].split()
    expected = ["reconciler-once.timer", "reconciler-once.service"] if name == "reconciler.service" else ["reconciler.service"]
    assert conflicts == expected


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        # What it starts is not installed here.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (SYSTEMD / name).read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in UNITS)], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "reconciler" in line]
    assert [line for line in complaints if not any(f"Unknown key '{key}'" in line or key in line for key in NEWER)] == []
    assert done.returncode == 0, done.stderr


def test_the_example_settings_are_valid_with_and_without_their_comments(tmp_path: Path) -> None:
    example = SYSTEMD / "reconciler.yaml.example"
    settings = read_settings(example, {}, {})
    assert (settings.repo, settings.server) == ("git@git.example:ops/config.git", "lon1-a")
    everything = re.sub(r"^# ((?:  )?[a-z_]+:(?: .*)?)$", r"\1", example.read_text(), flags=re.MULTILINE)
    file = tmp_path / "reconciler.yaml"
    file.write_text(everything)
    told = read_settings(file, {}, {})
    assert told.ssh_key is not None and told.token_file is not None and told.policy is not None
    left_out = {"git_timeout", "ca_file", "token_env", "on_rewrite", "generation_port", "host_generation_port"}
    assert type(told).model_fields.keys() - told.model_fields_set <= left_out | {
        *("state_dir", "edge_name", "host_name", "host_listener")
    }


@pytest.mark.slow
def test_it_installs_below_another_root_keeps_settings_and_leaves_state_when_it_is_removed(tmp_path: Path) -> None:
    wheel, root = _wheel(tmp_path), tmp_path / "root"
    said = _install("--root", str(root), "--from", str(wheel))
    assert "/etc/reconciler/reconciler.yaml" in said and "systemctl enable --now reconciler" in said
    program, settings = root / "opt/reconciler/bin/reconcile", root / "etc/reconciler/reconciler.yaml"
    assert subprocess.run([program], capture_output=True, text=True, timeout=30, check=True).stdout == "stand-in\n"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    for name in UNITS:
        assert (root / "etc/systemd/system" / name).read_text() == (SYSTEMD / name).read_text()
    started = _unit("reconciler.service")["Service"]["ExecStart"].split()[0]
    assert root / started.lstrip("/") == program

    settings.write_text("repo: /mine\n")
    state = root / "var/lib/reconciler/cluster.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    said = _install("--root", str(root), "--from", str(wheel))
    assert "keeps /etc/reconciler/reconciler.yaml" in said and settings.read_text() == "repo: /mine\n"

    said = _install("--remove", "--root", str(root))
    assert "What stays: every container" in said
    assert not (root / "opt/reconciler").exists() and not list((root / "etc/systemd/system").iterdir())
    assert settings.read_text() == "repo: /mine\n" and state.exists()
    _install("--remove", "--root", str(root))


def test_an_unknown_option_installs_nothing_and_shows_the_ones_there_are(tmp_path: Path) -> None:
    done = subprocess.run([SYSTEMD / "install", "--rot", tmp_path], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "--root DIR" in done.stderr and not list(tmp_path.iterdir())


def capabilities() -> tuple[str, ...]:
    """What the daemon's unit leaves, such as SYS_ADMIN."""
    found = re.search(r"^CapabilityBoundingSet=(.*)$", (SYSTEMD / "reconciler.service").read_text(), re.MULTILINE)
    assert found is not None
    return tuple(name.removeprefix("CAP_") for name in found[1].split())


def _hardening(name: str) -> str:
    return (SYSTEMD / name).read_text().split(HARDENING, 1)[1].split("[Install]")[0].strip()


def _unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string((SYSTEMD / name).read_text())
    return parser


def _install(*arguments: str) -> str:
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    done = subprocess.run([SYSTEMD / "install", *arguments], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _wheel(directory: Path) -> Path:
    """A package of the same shape that needs no other: what is tested is the installation, not the downloads."""
    path = directory / "stand_in-1-py3-none-any.whl"
    info = "stand_in-1.dist-info"
    files = {
        "stand_in.py": "def main():\n    print('stand-in')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nreconcile = stand_in:main\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return path
