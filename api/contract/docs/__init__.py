"""Serves the documentation page `/docs`, pages on problem types, and the OpenAPI document as JSON and YAML.

The page loads nothing from other hosts: the assets of Swagger UI come from the package flask-swagger-ui.
"""

import re
from functools import cache
from http import HTTPStatus
from pathlib import Path

import flask_swagger_ui
import orjson
from flask import Blueprint, Flask, Response, abort, render_template, send_from_directory
from markupsafe import Markup, escape

from api.contract.openapi import as_yaml, document, problem_example
from api.web.problem_types import INPUT_ERRORS, PROBLEM_TYPES
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

    @docs.get("/openapi.json")
    def openapi_json() -> Response:
        return _cacheable(Response(contract()["json"], content_type="application/json"))

    @docs.get("/openapi.yaml")
    def openapi_yaml() -> Response:
        return _cacheable(Response(contract()["yaml"], content_type="application/yaml"))

    @docs.get("/docs")
    def docs_page() -> Response:
        return _page("docs.html")

    @docs.get("/problems")
    def problems_page() -> Response:
        return _page("problem_types.html", problem_types=PROBLEM_TYPES.values(), input_errors=INPUT_ERRORS)

    @docs.get(f"/problems/<any({','.join(PROBLEM_TYPES)}):code>")
    def problem_page(code: str) -> Response:
        problem_type = PROBLEM_TYPES[code]
        sample = problem_example(problem_type, app.config["PUBLIC_URL"])
        if current_request().accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            json = orjson.dumps(sample, option=orjson.OPT_INDENT_2).decode()
            response = _page("problem_type.html", problem_type=problem_type, sample=json)
        else:
            members = {**problem_type._asdict(), "title": problem_type.title, "sample": sample}
            response = _cacheable(Response(orjson.dumps(members), content_type="application/json"))
        response.headers["Vary"] = "Accept"
        return response

    @docs.get(f"/docs/<any({','.join(repr(name) for name in ASSETS)}):name>")
    def docs_asset(name: str) -> Response:
        return _cacheable(send_from_directory(ASSETS[name], name, max_age=86_400))

    docs.add_app_template_filter(_code, "code")
    app.register_blueprint(docs)


def _code(text: str) -> Markup:
    """Return a text as HTML, with what stands in backticks as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", escape(text)))  # noqa: S704 -- it is escaped.


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
