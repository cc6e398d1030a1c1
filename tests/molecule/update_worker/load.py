"""Load through nginx over TLS: `load.py NAME RATE PHOTO` asks until its standard input ends, then prints what it saw.

Half of the requests use kept connections, half a new one each; half are GET /health, half POST /estimate-body with an
address that the worker refuses to fetch, and once a second with a real photo. Standard library only: it runs anywhere.
"""

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from itertools import count

CONNECTIONS = 8
LIMIT_SECONDS = 30.0

NAME, RATE, PHOTO = sys.argv[1], float(sys.argv[2]), sys.argv[3]
CONTEXT = ssl.create_default_context(cafile="/state/pebble-root.crt")
seen: Counter[str] = Counter()
failures: list[dict[str, object]] = []
seconds: list[float] = []
numbers = count()

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(number: int, *, keep: bool) -> tuple[bytes, int]:
    """The bytes of the next request, and the status that it has to get."""
    head = f"Host: {NAME}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n"
    if number % 2:
        return f"GET /health HTTP/1.1\r\n{head}\r\n".encode(), 200
    real = number % int(RATE) < 2
    body = json.dumps({"image_url": PHOTO if real else "http://127.0.0.1/x.jpg", "height_cm": 178})
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST /estimate-body HTTP/1.1\r\n{head}\r\n{body}".encode(), 200 if real else 400


async def opened() -> Connection:
    return await asyncio.open_connection(NAME, 443, ssl=CONTEXT, server_hostname=NAME)


async def exchange(connection: Connection, data: bytes) -> tuple[int, bool]:
    """Return the status, and True if the server keeps the connection."""
    reader, writer = connection
    writer.write(data)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:")), None)
    if length is None:
        chunk = -1
        while chunk:
            chunk = int(await reader.readline(), 16)
            await reader.readexactly(chunk + 2)
    else:
        await reader.readexactly(length)
    return int(head.split()[1]), "connection: close" not in head


async def ask(kind: str, connection: Connection | None) -> Connection | None:
    """One request; counts it, and returns the connection if it may be used again."""
    data, wanted = request(next(numbers), keep=kind == "kept")
    begun = time.monotonic()
    problem = ""
    keeps = False
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            # Like every client library: a connection that the server has closed meanwhile is not used again.
            if connection is None or connection[0].at_eof():
                connection = await opened()
            status, keeps = await exchange(connection, data)
            problem = "" if status == wanted else f"status {status}"
    except (OSError, EOFError, TimeoutError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    seen[kind] += 1
    seconds.append(time.monotonic() - begun)
    if problem:
        failures.append(
            {"time": time.strftime("%H:%M:%S"), "kind": kind, "request": data[:20].decode(), "what": problem}
        )
    if connection and (problem or not keeps or kind == "new"):
        connection[1].close()
        return None
    return connection


async def keep_asking() -> None:
    connection: Connection | None = None
    while True:
        begun = time.monotonic()
        connection = await ask("kept", connection)
        await asyncio.sleep(max(0.0, begun + 2 * CONNECTIONS / RATE - time.monotonic()))


async def ask_anew(running: set[asyncio.Task[object]]) -> None:
    while True:
        task: asyncio.Task[object] = asyncio.create_task(ask("new", None))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(2 / RATE)


async def main() -> None:
    begun = time.monotonic()
    running: set[asyncio.Task[object]] = set()
    tasks = [asyncio.create_task(keep_asking()) for _ in range(CONNECTIONS)]
    tasks.append(asyncio.create_task(ask_anew(running)))
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, *running, return_exceptions=True)
    seconds.sort()
    print(
        json.dumps(
            {
                "requests": dict(seen),
                "seconds": round(time.monotonic() - begun, 1),
                "failed": len(failures),
                "failures": failures[:30],
                "p50": round(seconds[len(seconds) // 2], 3),
                "p99": round(seconds[len(seconds) * 99 // 100], 3),
                "longest": round(seconds[-1], 3),
            }
        )
    )


asyncio.run(main())
