"""The shop's API: counts visits in Redis, which it reaches at CACHE_HOST:CACHE_PORT, always localhost and a fixed port."""

import asyncio
import json
import os

from server import Answer, serve


async def count() -> int:
    async with asyncio.timeout(2):
        reader, writer = await asyncio.open_connection(os.environ["CACHE_HOST"], int(os.environ["CACHE_PORT"]))
        writer.write(b"INCR visits\r\n")
        reply = await reader.readline()
        writer.close()
    return int(reply.removeprefix(b":"))


async def answer(path: str) -> Answer:
    match path:
        case "/up":
            return 200, "text/plain", "up\n"
        case "/visits":
            try:
                return 200, "text/plain", str(await count())
            except (KeyError, ValueError, OSError, TimeoutError) as error:
                return 503, "text/plain", f"Redis: {type(error).__name__}"
        case "/":
            return 200, "application/json", json.dumps({"service": "api", "version": os.environ.get("VERSION", "1")}) + "\n"
    return 404, "text/plain", "not found\n"


if __name__ == "__main__":
    asyncio.run(serve(answer, 8080))
