"""Ends what a run has left behind, should the run be killed: reaper.py FOLDER.

Servers die with the run, but not their own children: nginx's workers, Apache's. The run says on standard input
which groups of processes it starts (+NUMBER) and has ended (-NUMBER). When that ends, so does the run.
"""

import os
import shutil
import signal
import sys

groups = set()
for line in sys.stdin:
    change = groups.add if line[0] == "+" else groups.discard
    change(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
