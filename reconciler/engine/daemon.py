"""`reconcile run`: passes for as long as the process lives, woken by commits, Docker events, timers and changed files.

systemd hears READY after the first finished pass and is fed by finished passes only, so that a wedged one is noticed. SIGTERM ends
between two passes and leaves traffic running; what was under way is found again by the next start.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import sdnotify
from apscheduler.schedulers.background import BackgroundScheduler

from reconciler.effects.journal import StateLock
from reconciler.engine.loop import Wake
from reconciler.engine.performer import Watch
from reconciler.engine.settings import Settings
from reconciler.engine.watching import Noticed, watching
from reconciler.engine.wiring import Wired, wire
from reconciler.engine.world import Outcome
from reconciler.errors import ReconcilerError, Stalled

LONGEST_SLEEP = 10.0
POLL_BACKOFF_MOST = 60.0
CLEAN_UP_HOURS = 6
END_SECONDS = 20.0
ROUND_SECONDS = 0.02


class Daemon:
    """One server's daemon. `load` reads the settings anew when their file changes; `say` gets lines for the log."""

    def __init__(self, load: Callable[[], Settings], files: tuple[Path, ...], say: Callable[[str], None], watch: Watch) -> None:
        self._load = load
        self._files = files
        self._say = say
        self._watch = watch
        self._wake = Wake()
        self._stop = threading.Event()
        self._poll = threading.Event()
        self._reload = threading.Event()
        self._notifier = sdnotify.SystemdNotifier()
        self._failed_polls = 0
        self._failure: ReconcilerError | None = None
        self._poll_not_before = 0.0
        self._polled_at = 0.0
        self._ready = False
        self._told: str | None = None

    def run(self) -> int:
        """Until SIGTERM or SIGINT. Returns the exit code. Raises Stalled or Invalid when it cannot begin."""
        settings = self._load()
        lock = StateLock(settings.state_dir, "reconcile run")
        signal.signal(signal.SIGTERM, self._ended)
        signal.signal(signal.SIGINT, self._ended)
        signal.signal(signal.SIGHUP, self._hung_up)
        try:
            while not self._stop.is_set():
                settings = self._serve(settings)
        finally:
            lock.release()
        return 0

    def _serve(self, settings: Settings) -> Settings:
        """Run with one set of settings; returns the next one when they have changed."""
        wired = wire(settings, self._wake.ring, self._say, self._watch)
        scheduler = self._scheduled(settings, wired)
        ended = threading.Event()
        threads = [
            threading.Thread(target=self._follow_docker, args=(wired, ended), name="docker events", daemon=True),
            threading.Thread(
                target=watching, args=(settings, self._files, self._noticed, self._say, ended), name="files", daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        self._say(f"reconciling {settings.server} from {settings.branch}, state in {settings.state_dir}")
        wired.cycle.recall()
        self._poll.set()
        try:
            return self._passes(settings, wired)
        finally:
            self._notifier.notify("STOPPING=1" if self._stop.is_set() else "RELOADING=1")
            self._ready = False  # systemd takes it for reloading until it hears READY again
            scheduler.shutdown(wait=False)
            ended.set()
            self._finish(wired)
            wired.close()

    def _passes(self, settings: Settings, wired: Wired) -> Settings:
        timed = False
        while not self._stop.is_set():
            if self._reload.is_set():
                self._reload.clear()
                changed = self._changed(settings)
                if changed is not None:
                    return changed
            self._poll_if_due(wired, timed)
            outcome = wired.cycle.step()
            self._note(wired, outcome)
            sleep = ROUND_SECONDS if outcome.busy else min(outcome.next_in or LONGEST_SLEEP, LONGEST_SLEEP)
            now, timed = time.monotonic(), False
            if outcome.poll_in is not None:
                rest = max(self._polled_at + outcome.poll_in, self._poll_not_before) - now
                timed = rest <= 0
                sleep = min(sleep, max(rest, ROUND_SECONDS))
            if self._poll.is_set() and now < self._poll_not_before:
                sleep = min(sleep, self._poll_not_before - now)
            self._wake.wait(sleep)
        return settings

    def _finish(self, wired: Wired) -> None:
        """Let steps that are under way end, within bounds: a step that is cut short is found again at the next start.

        With new settings also a fetch or a push, as the next one would use the same clone.
        """
        deadline = time.monotonic() + END_SECONDS
        while wired.jobs.working("instance:" if self._stop.is_set() else "") and time.monotonic() < deadline:
            self._wake.wait(0.1)

    # Polling

    def _poll_if_due(self, wired: Wired, timed: bool) -> None:
        """Poll when somebody has asked for it, or when it is time to.

        What somebody asks for during a poll may have come after that has looked: it is asked for again once that is done.
        """
        asked = self._poll.is_set()
        if not (asked or timed) or time.monotonic() < self._poll_not_before:
            return
        self._poll.clear()
        self._polled_at = time.monotonic()
        if not wired.cycle.poll() and asked:
            self._poll.set()

    def _note(self, wired: Wired, outcome: Outcome) -> None:
        """Tell systemd and the log; a poll that failed is tried again, ever more rarely."""
        polled = wired.cycle.poll_error
        if polled is None:
            self._failed_polls, self._poll_not_before = 0, 0.0
        elif polled is not self._failure:  # each failure counts once, however long it stays the last word
            self._failed_polls += 1
            delay = min(POLL_BACKOFF_MOST, 2.0 ** min(self._failed_polls, 9)) * random.uniform(0.5, 1.0)
            self._poll_not_before = time.monotonic() + delay
            self._poll.set()
        self._failure = polled
        told = str(outcome.problem) if outcome.problem is not None else None
        if told != self._told:
            self._say(told if told is not None else "no longer held up")
            self._told = told
        if not self._ready and (outcome.problem is None or wired.cycle.cluster is not None):
            self._ready = True
            self._notifier.notify("READY=1")
        status = told or (", ".join(f"{name} {phase}" for name, phase in outcome.active.items()) or "reconciled")
        self._notifier.notify(f"WATCHDOG=1\nSTATUS={status[:200]}")

    def _scheduled(self, settings: Settings, wired: Wired) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(timezone="UTC")
        jitter = max(1, int(settings.poll_interval * 0.1))
        scheduler.add_job(self._ask_for_poll, "interval", seconds=settings.poll_interval, jitter=jitter)
        scheduler.add_job(wired.cycle.clean_images, "interval", hours=CLEAN_UP_HOURS, jitter=600)
        scheduler.add_job(wired.cycle.compact, "interval", hours=CLEAN_UP_HOURS, jitter=3600)
        scheduler.start()
        return scheduler

    def _ask_for_poll(self) -> None:
        self._poll.set()
        self._wake.ring()

    # What wakes it

    def _follow_docker(self, wired: Wired, ended: threading.Event) -> None:
        for _ in wired.docker.events():
            if ended.is_set():
                return
            self._wake.ring()

    def _noticed(self, what: Noticed) -> None:
        if what.settings:
            self._reload.set()
        if what.commits:
            self._poll.set()
        self._wake.ring()

    def _changed(self, settings: Settings) -> Settings | None:
        """New settings, if they are valid and different. What moves the state directory needs a restart."""
        try:
            new = self._load()
            if new.state_dir != settings.state_dir:
                raise Stalled(f"state_dir changed to {new.state_dir}: restart the reconciler for that", reason="StateDirectory")
        except ReconcilerError as error:
            self._say(f"settings not taken over: {error}")
            return None
        if new == settings:
            return None
        self._say("settings changed: taking them over")
        return new

    def _ended(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()
        self._wake.ring()

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reload.set()
        self._poll.set()
        self._wake.ring()


def run_daemon(load: Callable[[], Settings], files: tuple[Path, ...], say: Callable[[str], None], watch: Watch) -> int:
    """Run until told to stop. `files`: settings and policy files whose change is to be noticed."""
    return Daemon(load, files, say, watch).run()
