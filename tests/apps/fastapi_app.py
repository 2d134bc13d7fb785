"""The FastAPI application under test."""
import pathlib
import tempfile

from fastapi import FastAPI, Header
from fastapi.staticfiles import StaticFiles

ASSETS = pathlib.Path(tempfile.mkdtemp(prefix="spillway-fastapi-"))
(ASSETS / "index-BqL7urjy.js").write_text("run()")

app = FastAPI()
app.mount("/assets", StaticFiles(directory=ASSETS))


@app.get("/api/items")
def items():
    return {"items": [1, 2]}


@app.get("/api/me")
def me(authorization: str = Header()):
    return {"you": authorization}
