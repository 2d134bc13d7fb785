"""The Flask application under test."""
import io

from flask import Flask, redirect, request, send_file, session, url_for

app = Flask(__name__)
app.secret_key = "only for this test"


@app.get("/")
def home():
    return f"hello {session.get('name', 'stranger')}\n"


@app.get("/raw/<path:_>")
def raw(_):
    return request.environ["RAW_URI"]


@app.post("/login")
def login():
    session["name"] = request.form["name"]
    return redirect(url_for("home"))


@app.get("/file")
def file():
    data = io.BytesIO(bytes(range(256)) * 64)
    return send_file(data, download_name="file.bin", conditional=True, etag="v1")
