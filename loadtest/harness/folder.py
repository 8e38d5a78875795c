"""The folder of one run, one run at a time."""

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from . import processes
from .needs import HOME

PREFIX = "vidimus-load-"
ALIVE = "alive"  # locked for as long as its run lives


@contextmanager
def only_run():
    """Two at once would measure each other."""
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as file:
        if not _lock(file):
            raise processes.Trouble("another loadtest/run is at work; wait for it, two would measure each other")
        yield


@contextmanager
def work():
    """A new folder, gone afterwards with all that was started in it; by the reaper if this run is killed."""
    _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with open(folder / ALIVE, "w") as alive:
        _lock(alive)
        processes.reap_in(folder)
        try:
            yield folder
        finally:
            processes.end_all()
            shutil.rmtree(folder, ignore_errors=True)


def _remove_stale():
    """What runs left whose reaper died as well."""
    for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / ALIVE) as alive:
                dead = _lock(alive)
        except OSError:
            continue
        if dead:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
