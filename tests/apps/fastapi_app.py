"""The FastAPI application under test."""
import pathlib
import tempfile
import time

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware

ASSETS = pathlib.Path(tempfile.mkdtemp(prefix="spillway-fastapi-"))
(ASSETS / "index-BqL7urjy.js").write_text("run()")

app = FastAPI()
# It signs the session's cookie anew in each answer.
app.add_middleware(SessionMiddleware, secret_key="only for this test")
app.mount("/assets", StaticFiles(directory=ASSETS))


@app.get("/api/items")
def items():
    return {"items": [1, 2]}


def known(request: Request, authorization: str | None = Header(None)):
    user = authorization or request.session.get("user")
    if not user:
        raise HTTPException(401)
    return user


@app.get("/api/me")
def me(response: Response, user: str = Depends(known)):
    response.headers["X-User-Id"] = user
    return {"you": user}


@app.post("/login")
def login(request: Request):
    request.session["user"] = "ann"


@app.post("/import")
def start_import(user: str = Depends(known)):
    return RedirectResponse(f"/imports/{user}", 303)


@app.post("/api/reports")
def report(body: dict, user: str = Depends(known)):
    time.sleep(2.5)  # More than `after`.
    return {"of": user, "years": body["years"]}
