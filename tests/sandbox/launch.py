"""Becomes another program that dies with its parent, under another user if asked; a step of `processes.spawn`.

usage: python -I -S launch.py <parent pid> <death signal> <uid or -> <program> [argument...]
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal, uid, *command = sys.argv[1:]
    if uid != "-":
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        # After setuid, which would clear it; it survives exec.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):  # it was gone before the signal was armed
        sys.exit("the parent process has ended")
    os.execv(command[0], command)


main()
