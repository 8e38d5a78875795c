"""The two cores of a run: one for the servers, one for the load."""

import os
from pathlib import Path


def _physical(core):
    """What tells a physical core from others, however many threads it has."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(core)


def _chosen():
    """Of the cores that we may use; two threads of one physical core only if there is no other."""
    ours = sorted(os.sched_getaffinity(0))
    others = [core for core in ours[1:] if _physical(core) != _physical(ours[0])] or ours[1:]
    return ours[0], (others or ours)[0]


SERVER_CORE, LOAD_CORE = _chosen()


def told():
    one = " (two threads of one physical core)" if _physical(SERVER_CORE) == _physical(LOAD_CORE) else ""
    return f"servers on core {SERVER_CORE}, load on core {LOAD_CORE}{one}"
