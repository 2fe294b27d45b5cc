"""Subprocesses: they end in time, whatever they do, and tell no secret."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reconciler.effects.process import Failed, TimedOut, redacted, run
from tests.waiting import eventually

IMPATIENT = (0.5, 4.0, 30.0)
"""Seconds for a program that never ends: the next one counts where this machine took too long to get that far."""
SECRET = "s3cr3t-c4n4ry"


def alive(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    eventually(lambda: not alive(pid), 30, f"the end of process {pid}")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_gets_its_input_and_gives_its_output() -> None:
    done = run(["sh", "-c", "cat; echo problem >&2; exit 3"], timeout=60, input=b"hello\0world")
    assert (done.code, done.stdout, done.stderr_tail) == (3, b"hello\0world", "problem\n")
    assert 0 < done.seconds < 60


def test_large_input_and_output_pass_at_the_same_time() -> None:
    data = os.urandom(8 * 1024 * 1024)
    assert run(["cat"], timeout=60, input=data).stdout == data


def test_output_written_right_before_the_end_is_whole() -> None:
    for _ in range(30):
        assert len(run(["head", "-c", "65536", "/dev/zero"], timeout=60).stdout) == 65536


def test_a_program_that_does_not_read_its_input_still_ends() -> None:
    assert run(["true"], timeout=60, input=b"x" * 1_000_000).code == 0


def test_require_names_program_code_and_words() -> None:
    with pytest.raises(Failed, match=r"sh -c .* ended with code 4: no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 4"], timeout=60).require()
    with pytest.raises(Failed, match="signal 9"):
        run(["sh", "-c", "kill -9 $$"], timeout=60).require()


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Failed, match="cannot start no-such-program-here"):
        run(["no-such-program-here"], timeout=1)


def test_a_timeout_kills_the_whole_group_and_returns_at_once(tmp_path: Path) -> None:
    """FAULTS 30: a program that hangs, and whose children hang with the pipes open, holds nobody up."""
    pids = tmp_path / "pids"
    pids.touch()
    for seconds in IMPATIENT:
        with pytest.raises(TimedOut, match=f"did not end within {seconds:g} s"):
            run(["sh", "-c", f"trap '' TERM; sleep infinity & echo $! >>{pids}; echo $$ >>{pids}; wait"], timeout=seconds)
        if len(pids.read_text().split()) > 1:
            break
    found = pids.read_text().split()
    assert len(found) > 1
    for pid in found:
        wait_until_gone(int(pid))


def test_a_straggler_that_left_the_session_and_holds_the_pipes_does_not_block(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    done = run(["sh", "-c", f"setsid sh -c 'echo $$ >{pidfile}; exec sleep infinity' & echo mine; "
                            f"while ! [ -s {pidfile} ]; do :; done"], timeout=60)  # fmt: skip
    straggler = int(pidfile.read_text())
    try:
        assert done.stdout == b"mine\n"
        assert alive(straggler)
    finally:
        os.kill(straggler, 9)


def test_a_straggler_inside_the_session_is_killed_when_the_program_ends(tmp_path: Path) -> None:
    done = run(["sh", "-c", "sleep infinity & echo $!"], timeout=60)
    assert done.code == 0
    wait_until_gone(int(done.stdout))


def test_too_much_output_is_an_error_not_a_full_memory() -> None:
    with pytest.raises(Failed, match="more than 1000 bytes"):
        run(["cat", "/dev/zero"], timeout=60, stdout_limit=1000)


def test_of_endless_errors_only_the_end_is_kept() -> None:
    done = run(python("import sys\nfor n in range(200000): print('line', n, file=sys.stderr)"), timeout=60, tail_bytes=100)
    assert len(done.stderr_tail) <= 100
    assert done.stderr_tail.endswith("line 199999\n")


def test_no_secret_reaches_any_message() -> None:
    """FAULTS 55: neither a given secret, nor user information of a URL, nor an Authorization header is repeated."""
    words = f"at https://user:{SECRET}@host/x and Authorization: Basic {SECRET}zzz then {SECRET}"
    script = "cat >&2; exit 1"
    done = run(["sh", "-c", script], timeout=60, input=words.encode(), redact=[SECRET])
    assert SECRET not in done.stderr_tail
    assert "https://***@host/x" in done.stderr_tail
    with pytest.raises(Failed) as failed:
        done.require()
    assert SECRET not in str(failed.value)
    for seconds in IMPATIENT:
        with pytest.raises(TimedOut) as late:
            run(["sh", "-c", "cat >&2; sleep infinity"], timeout=seconds, input=words.encode(), redact=[SECRET])
        if "it said: nothing" not in str(late.value):
            break
    assert SECRET not in str(late.value)
    assert "https://***@host/x" in str(late.value)


def test_a_secret_cut_by_the_bound_of_the_tail_is_not_half_shown() -> None:
    """FAULTS 55: blotting out shortens the text so much that the place of the cut would show."""
    secret = SECRET * 200
    script = "while read -r line && [ $((n += 1)) -lt 200 ]; do echo $line >&2; done"
    for shift in range(0, 60, 7):
        words = ("x" * shift + f"\nhttps://user:{secret}@host/" * 200).encode()
        done = run(["sh", "-c", script], timeout=60, input=words, redact=[secret], tail_bytes=4000)
        assert "c4n4" not in done.stderr_tail
        assert done.stderr_tail.endswith("https://***@host/\n")


def test_a_secret_in_the_arguments_is_refused() -> None:
    """FAULTS 55: the process list is public."""
    with pytest.raises(ValueError, match="arguments of git") as refused:
        run(["git", "fetch", f"https://x:{SECRET}@host/"], timeout=1, redact=[SECRET])
    assert SECRET not in str(refused.value)


def test_terminal_escapes_are_made_visible() -> None:
    """FAULTS 60: what a program says cannot drive a terminal or forge a log line."""
    assert redacted("a\x1b[2Jb\rc\u202ed") == "a\\x1b[2Jb\\rc\\u202ed"
