"""The Starlette application under test."""
import asyncio
import hashlib

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

PAUSE = 0.4


async def parts(form):
    for number in range(3):
        yield form.format(number)
        await asyncio.sleep(PAUSE)


async def stream(_):
    return StreamingResponse(parts("part {}\n"), media_type="text/plain")


async def events(_):
    return StreamingResponse(parts("data: {}\n\n"), media_type="text/event-stream")


async def upload(request):
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def echo(socket):
    await socket.accept(subprotocol="echo")
    async for message in socket.iter_text():
        if message == "bye":
            break
        await socket.send_text(message)
    await socket.close(4321, "as asked")


app = Starlette(routes=[
    Route("/stream", stream), Route("/events", events),
    Route("/upload", upload, methods=["POST"]), WebSocketRoute("/echo", echo)])
