"""Become a child that dies with its parent: run by path, in an isolated interpreter.

`python -I -S exec_child.py PARENT_PID USER -- PROGRAM ARGUMENT…`

A program of its own, not `preexec_fn`: code between fork and exec may deadlock in a process with
threads. USER is the account to become when it is not `-`. Becoming another user keeps
CAP_DAC_OVERRIDE, so that a Python environment or a data directory under a home that only root
may enter still works without changing anybody's permissions.
"""

import ctypes
import os
import signal
import struct
import sys

# linux/prctl.h and linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def become_user(name: str) -> None:
    """Drop from root to an account, keeping only the right to pass file permissions.

    Args:
        name: the account.

    Raises:
        KeyError: there is no such account.
        PermissionError: this process may not change its user.
    """
    import pwd  # noqa: PLC0415 - most children keep their user

    account = pwd.getpwnam(name)
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if libc is not None:
        # Refused in a container without the capability: then plain permissions decide.
        bits = 1 << CAP_DAC_OVERRIDE
        header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
        libc.capset(header, struct.pack("6I", bits, bits, bits, 0, 0, 0))
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; elsewhere than on Linux do nothing.

    SIGKILL, as a stopped (SIGSTOP) server heeds nothing else; all our stores survive it.

    Args:
        parent_pid: who started this process.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have ended before the request: then no signal would ever come.
    if os.getppid() != parent_pid:
        sys.exit("the parent ended before its child started")


def main() -> None:
    """Change user if asked, tie this process to its parent, become the program."""
    parent_pid, user, _separator, *command = sys.argv[1:]
    try:
        if user != "-":
            become_user(user)
        # After the change of user, which clears the request.
        die_with_parent(int(parent_pid))
        # Python ignores SIGPIPE, and an ignored signal would stay ignored after exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(command[0], command)  # noqa: S606 - a fixed program, no shell
    except (OSError, KeyError) as error:
        sys.exit(f"FATAL: cannot run {command[0]}: {error}")


if __name__ == "__main__":
    main()
