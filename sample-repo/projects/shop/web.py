"""The shop's page: shows its version in its colour, and how often the page was opened, which the API counts."""

import asyncio
import os
import socket
from html import escape

from server import Answer, serve

VERSION = os.environ.get("VERSION", "?")
COLOUR = os.environ.get("COLOUR", "grey")


async def visits() -> str:
    """Asks the API at localhost:API_PORT. The page works without it."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(os.environ["API_HOST"], int(os.environ["API_PORT"]))
            writer.write(b"GET /visits HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
            headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(headers.split("content-length:")[1].split("\r\n")[0])
            body = (await reader.readexactly(length)).decode()
            writer.close()
            return body if headers.split(" ")[1] == "200" else "not counted: the API has no database"
    except (KeyError, ValueError, IndexError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        return f"not counted: {type(error).__name__}"


async def answer(path: str) -> Answer:
    if path == "/up":
        return 200, "text/plain", "up\n"
    if path == "/version":
        return 200, "text/plain", f"{VERSION} {COLOUR}\n"
    if path != "/":
        return 404, "text/plain", "not found\n"
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8"><title>shop {escape(VERSION)}</title>
<body style="background: {escape(COLOUR)}; color: white; font: 2rem sans-serif; text-align: center; padding-top: 15vh">
<h1>shop, version {escape(VERSION)}</h1>
<p>visits: {escape(await visits())}</p>
<p><small>answered by {escape(socket.gethostname())}</small></p>
</body>
</html>
"""
    return 200, "text/html", page


if __name__ == "__main__":
    asyncio.run(serve(answer, 8080))
