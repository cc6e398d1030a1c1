"""The sandbox for hosts of the test bed: `python -m tests.testbed.sandbox GATEWAY FILE`.

Its servers listen on loopback; each port is forwarded from the test bed's gateway address, so that for a host the same
URL works with that address in the place of 127.0.0.1. FILE gets the addresses and keys when everything answers.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.sandbox import Sandbox


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass
    finally:
        target.close()


async def _forward(gateway: str, port: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    await asyncio.start_server(accept, gateway, port)


async def _serve(gateway: str, file: Path, sandbox: Sandbox) -> None:
    urls = {
        "supabase_url": sandbox.env()["SUPABASE_URL"],
        "openai_url": sandbox.openai_url,
        "photos_url": sandbox.photos_url,
        "database_url": sandbox.database_url,
    }
    for port in {urlsplit(url).port for url in urls.values()}:
        await _forward(gateway, int(port or 0))
    answer = {name: url.replace("127.0.0.1", gateway) for name, url in urls.items()}
    answer |= {"service_key": sandbox.service_key, "openai_key": sandbox.openai_key}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    file.write_text(json.dumps(answer))  # noqa: ASYNC240
    await stop.wait()
    file.unlink(missing_ok=True)  # noqa: ASYNC240


if __name__ == "__main__":
    with Sandbox() as running:
        asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), running))
