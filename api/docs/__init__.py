"""The contract as people read it: `/docs`, and the document itself in JSON and YAML.

Everything comes from this service. The assets are Swagger UI's, from the package flask-swagger-ui.
"""

from functools import cache
from http import HTTPStatus
from pathlib import Path

import flask_swagger_ui
import orjson
from flask import Blueprint, Flask, Response, abort, render_template, send_from_directory

from api.errors import KINDS
from api.messages import current_request
from api.openapi import as_yaml, document

SWAGGER_UI = Path(flask_swagger_ui.__file__).with_name("dist")
ASSETS = {
    "swagger-ui.css": SWAGGER_UI,
    "swagger-ui-bundle.js": SWAGGER_UI,
    "favicon-32x32.png": SWAGGER_UI,
    "docs.js": Path(__file__).parent,
    "docs.css": Path(__file__).parent,
}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def init_app(app: Flask, prefix: str) -> None:
    """Serve the contract of the routes below a prefix."""
    docs = Blueprint("docs", __name__, template_folder=".")

    @cache
    def contract() -> dict[str, bytes]:
        made = document(app, prefix)
        return {"json": orjson.dumps(made), "yaml": as_yaml(made).encode()}

    @docs.get("/openapi.json")
    def openapi_json() -> Response:
        return _cacheable(Response(contract()["json"], content_type="application/json"))

    @docs.get("/openapi.yaml")
    def openapi_yaml() -> Response:
        return _cacheable(Response(contract()["yaml"], content_type="application/yaml"))

    @docs.get("/docs")
    def docs_page() -> Response:
        return _page("docs.html")

    @docs.get("/docs/problems")
    def problems_page() -> Response:
        return _page("problems.html", kinds=KINDS.values())

    @docs.get(f"/docs/<any({','.join(repr(name) for name in ASSETS)}):name>")
    def docs_asset(name: str) -> Response:
        return _cacheable(send_from_directory(ASSETS[name], name, max_age=86_400))

    app.register_blueprint(docs)


def _page(template: str, **context: object) -> Response:
    response = Response(render_template(template, **context), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return _cacheable(response)


def _cacheable(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "public, no-cache")
    response.add_etag()
    response.make_conditional(current_request())
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        response.close()  # It may be a file.
        abort(response.status_code)
    return response
