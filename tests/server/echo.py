"""An application that returns its environ; run under the front and under granian's own WSGI."""

from collections.abc import Iterator
from typing import Any, NoReturn

from flask import Flask, Response, request

from api.server import Front

app = Flask(__name__)
app.config.from_mapping(
    DATABASE_TIMEOUT_SECONDS=60,
    DATABASE_URL="sqlite:///",
    RATELIMIT_STORAGE_URL="memory://",
    REQUEST_SECONDS=1,
    THREADS=1,
    WORKERS=1,
)


@app.route("/", defaults={"path": ""}, methods=["GET", "POST", "OPTIONS"])
@app.route("/<path:path>", methods=["GET", "POST", "OPTIONS"])
def echo(path: str) -> dict[str, Any]:
    """Return what of the environ JSON can have, with the body."""
    environ = {key: value for key, value in request.environ.items() if isinstance(value, str | int)}
    return {**environ, "body": request.get_data(as_text=True) if request.method == "POST" else ""}


@app.get("/generated")
def generated() -> Response:
    """Return a body that is made while it is sent."""

    def pieces() -> Iterator[bytes]:
        yield b'{"a": '
        yield b"1}"

    return Response(pieces(), content_type="application/json")


@app.get("/exit")
def leave() -> NoReturn:
    """Raise what Flask does not catch."""
    raise SystemExit(1)


def front() -> Front:
    """Return the application behind the front."""
    return Front(app)
