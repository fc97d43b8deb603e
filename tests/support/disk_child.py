"""A process for which the system refuses to write: `python -m tests.support.disk_child HOW PATH`.

`quota`: the kernel lets no file grow beyond 200 kB, as a full disk would, in the
middle of a commit. `readonly`: the process may read the file and its directory only.
Limits and identities belong to a process, hence a child.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from gatewayd.adapters.sqlite import open_log, open_log_file
from gatewayd.ports import StorageError
from tests.support.log_child import INTENT, say

NOBODY = 65534


async def quota(path: Path) -> None:
    async with open_log(path) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        count = 0
        try:
            while True:
                count = await log.append(INTENT) + 1
        except StorageError as error:
            say(count, error)
        assert await log.size() == count, "what was refused is not there"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await log.append(INTENT) == count


async def readonly(path: Path) -> None:
    give_up_rights(path)
    try:
        async with open_log(path):
            say("opened")
    except StorageError as error:
        say(error)
    with open_log_file(path) as file:
        say("read", file.size(), "of", len(list(file.rows(0, 99))))


def give_up_rights(path: Path) -> None:
    if os.geteuid() == 0:  # to whom no mode forbids anything
        os.chown(path, NOBODY, NOBODY)
        os.chown(path.parent, NOBODY, NOBODY)
        os.seteuid(NOBODY)


if __name__ == "__main__":
    asyncio.run({"quota": quota, "readonly": readonly}[sys.argv[1]](Path(sys.argv[2])))
