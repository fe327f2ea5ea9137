"""Run a program and count its fsync and fdatasync calls by the file that they are for, as the kernel sees them.

    python count_syncs.py REPORT PROGRAM ARGUMENT...

Writes `{"/path": calls}` as JSON to REPORT and ends with the program's exit code. It follows threads and child
processes by ptrace, as strace does, but needs only Python and Linux: no compiler, and nothing to install.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
from collections import Counter
from pathlib import Path

SYNCS = {"x86_64": (74, 75)}.get(platform.machine(), (82, 83))
"""Numbers of fsync and fdatasync; those of newer machines are the same everywhere."""

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # SYSGOOD, and follow fork, vfork, clone, exec
SYSCALL_STOP = signal.SIGTRAP | 0x80
ENTRY = 1
EVERYBODY = 0x40000000  # __WALL: threads too


class SyscallInfo(ctypes.Structure):
    """Of <linux/ptrace.h>, as it is at the entry of a system call."""

    _fields_ = (
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64), ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6),
        ("more", ctypes.c_uint64 * 2),
    )  # fmt: skip


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: object = None) -> None:
    if libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def main(report: str, program: list[str]) -> int:
    first = os.fork()
    if first == 0:
        ptrace(TRACEME, 0)
        os.execv(program[0], program)
    os.waitpid(first, 0)
    ptrace(SETOPTIONS, first, 0, OPTIONS)
    ptrace(SYSCALL, first)
    found: Counter[str] = Counter()
    code = 1
    while True:
        try:
            pid, status = os.waitpid(-1, EVERYBODY)
        except ChildProcessError:
            break
        if not os.WIFSTOPPED(status):
            if pid == first:
                code = os.waitstatus_to_exitcode(status)
            continue
        stopped = os.WSTOPSIG(status)
        if stopped == SYSCALL_STOP:
            look(pid, found)
        passed_on = 0 if stopped in (SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else stopped
        try:
            ptrace(SYSCALL, pid, 0, passed_on)
        except ProcessLookupError:
            continue  # killed meanwhile
    Path(report).write_text(json.dumps(found), encoding="utf-8")
    return code


def look(pid: int, found: Counter[str]) -> None:
    info = SyscallInfo()
    ptrace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.byref(info))
    if info.op == ENTRY and info.number in SYNCS:
        found[str(Path(f"/proc/{pid}/fd/{info.arguments[0]}").readlink())] += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
