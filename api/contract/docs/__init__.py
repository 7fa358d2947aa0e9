"""Serves the documentation page `/docs`, and the OpenAPI document as JSON and YAML.

The page loads nothing from other hosts: the assets of Swagger UI come from the package flask-swagger-ui.
"""

from functools import cache
from http import HTTPStatus
from pathlib import Path

import flask_swagger_ui
import orjson
from flask import Blueprint, Flask, Response, abort, render_template, send_from_directory

from api.contract.openapi import as_yaml, document
from api.web.problems import PROBLEM_TYPES
from api.web.wrappers import current_request

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
    """Serve the OpenAPI document of the routes below a prefix."""
    docs = Blueprint("docs", __name__, template_folder=".")

    @cache
    def contract() -> dict[str, bytes]:
        generated = document(app, prefix)
        return {"json": orjson.dumps(generated), "yaml": as_yaml(generated).encode()}

    def served(form: str) -> bytes:
        """Return the document, with the prefix of a proxy in the server's URL.

        Neither form needs an escape in the prefix (`api.web.proxies`), so that no document is generated.
        """
        before = {"json": '"servers":[{"url":"', "yaml": "\nservers:\n- url: "}[form]
        root = current_request().root_path
        return contract()[form].replace(f"{before}{prefix}".encode(), f"{before}{root}{prefix}".encode())

    @docs.get("/openapi.json")
    def openapi_json() -> Response:
        return _cacheable(Response(served("json"), content_type="application/json"))

    @docs.get("/openapi.yaml")
    def openapi_yaml() -> Response:
        return _cacheable(Response(served("yaml"), content_type="application/yaml"))

    @docs.get("/docs")
    def docs_page() -> Response:
        return _page("docs.html")

    @docs.get("/docs/problems")
    def problems_page() -> Response:
        return _page("problems.html", problem_types=PROBLEM_TYPES.values())

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
