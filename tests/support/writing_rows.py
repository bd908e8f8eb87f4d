"""A process that writes rows into a database, and says each row's version once it is acknowledged.

    python writing_rows.py URL FIRST COUNT [LIMIT]

LIMIT is the greatest size, in bytes, of any file that the process may write.
"""

import asyncio
import resource
import sys

from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert
from dspex.operations.storage import Database, SQLStore
from dspex.testing.store import signature


def say(value: object) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


async def main(url: str, numbers: range) -> None:
    database = Database(url)
    store, waiting = SQLStore(database, DOMAIN), iter(numbers)

    async def write() -> None:
        for number in waiting:
            await store.write(Insert(signature(version=number, instructions="x" * 2000)))
            say(number)

    try:
        await asyncio.gather(*(write() for _ in range(8)))
        say("done")
    except StorageError as error:
        say(f"refused: {error.message}")
    finally:
        await database.aclose()


if __name__ == "__main__":
    url, first, count, *limit = sys.argv[1:]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    asyncio.run(main(url, range(int(first), int(first) + int(count))))
