"""The system calls that a submission is refused: it has threads, and no other processes.

RLIMIT_NPROC bounds a fork bomb only for some instructors: the kernel does not apply it to root,
however the user is called inside a sandbox, and a watcher that counts processes comes too late on
a busy machine. So the kernel itself refuses to make a process, whoever asks: there is one to watch
and one to kill. Refused as well is memory that counts as no process's own, and so under no limit.
"""

import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of the kernel's tables; `arch` from linux/audit.h. x86_64 has fork and vfork besides.
_CALLS = {
    "x86_64": {
        "arch": 0xC000003E, "fork": 57, "vfork": 58, "clone": 56, "clone3": 435, "unshare": 272,
        "mmap": 9, "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "semget": 64,
        "msgget": 68, "io_uring_setup": 425,
    },
    "aarch64": {
        "arch": 0xC00000B7, "clone": 220, "clone3": 435, "unshare": 97, "mmap": 222,
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "semget": 190, "msgget": 186,
        "io_uring_setup": 425,
    },
}  # fmt: skip
_CLONE_THREAD, _SHARED_AND_ANONYMOUS = 0x10000, 0x21
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # where they begin in struct seccomp_data


def program(machine: str = "") -> bytes:
    """The filter as the kernel reads it (`struct sock_filter`), or b"" for an unknown processor.

    Args:
        machine: as `platform.machine()` says it; left out, this one.
    """
    calls = dict(_CALLS.get(machine or platform.machine(), {}))
    if not calls:
        return b""
    arch, clone, clone3, mmap = (calls.pop(name) for name in ("arch", "clone", "clone3", "mmap"))
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR | errno.EPERM)
    steps = [
        (_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL),  # 32-bit code
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL),  # x32
        # its arguments lie in memory, where a filter can't look; told that there is no such call,
        # the C library makes its threads with clone
        (_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
    ]  # fmt: skip
    for number in calls.values():
        steps += [(_EQUAL, 0, 1, number), refuse]
    steps += [
        (_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _ARGUMENT), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow,
        refuse,
        (_EQUAL, 0, 3, mmap), (_LOAD, 0, 0, _ARGUMENT + 3 * 8), (_AND, 0, 0, _SHARED_AND_ANONYMOUS),
        (_EQUAL, 1, 0, _SHARED_AND_ANONYMOUS), allow, refuse,
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


@contextmanager
def descriptor() -> Iterator[int]:
    """A file descriptor to read the program from, once: for `bwrap --seccomp`."""
    read, write = os.pipe()
    os.write(write, program())  # far less than a pipe holds
    os.close(write)
    try:
        yield read
    finally:
        os.close(read)
