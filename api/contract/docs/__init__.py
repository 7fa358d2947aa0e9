"""Serves the documentation page `/docs`, pages on problem types, and the OpenAPI document as JSON and YAML.

The page loads nothing from other hosts. It is RapiDoc, a web component in one file.
"""

import gzip
import re
from functools import cache, lru_cache
from http import HTTPStatus
from mimetypes import guess_type
from pathlib import Path

import orjson
from flask import Blueprint, Flask, Response, abort, render_template
from markupsafe import Markup, escape

from api.config import API_PREFIX
from api.contract.openapi import as_yaml, document, problem_example
from api.web.problem_types import INPUT_ERRORS, PROBLEM_TYPES
from api.web.problems import public_url
from api.web.wrappers import current_request

ASSETS = {path.name: path.read_bytes() for path in Path(__file__).with_name("assets").iterdir()}
# RapiDoc writes the colors of its theme into a style element.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def init_app(app: Flask) -> None:
    """Serve the OpenAPI document, and the pages."""
    docs = Blueprint("docs", __name__, template_folder=".")

    @cache
    def contract() -> dict[str, bytes]:
        generated = document(app, app.config["PUBLIC_URL"])
        return {"json": orjson.dumps(generated), "yaml": as_yaml(generated).encode()}

    def served(form: str) -> bytes:
        """Return the document, with the prefix of a proxy in the server's URL.

        Neither form needs an escape in the prefix (`api.web.proxies`), so that no document is generated.
        """
        before = {"json": '"servers":[{"url":"', "yaml": "\nservers:\n- url: "}[form]
        root = current_request().root_path
        return contract()[form].replace(
            f"{before}{API_PREFIX}".encode(), f"{before}{root}{API_PREFIX}".encode()
        )

    @docs.get("/openapi.json")
    def openapi_json() -> Response:
        return _cacheable(Response(served("json"), content_type="application/json"))

    @docs.get("/openapi.yaml")
    def openapi_yaml() -> Response:
        return _cacheable(Response(served("yaml"), content_type="application/yaml"))

    @docs.get("/docs")
    def docs_page() -> Response:
        return _page("docs.html")

    @docs.get("/problems")
    def problems_page() -> Response:
        return _page("problem_types.html", problem_types=PROBLEM_TYPES.values(), input_errors=INPUT_ERRORS)

    @docs.get(f"/problems/<any({','.join(PROBLEM_TYPES)}):code>")
    def problem_page(code: str) -> Response:
        problem_type = PROBLEM_TYPES[code]
        sample = problem_example(problem_type, public_url())
        if current_request().accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            json = orjson.dumps(sample, option=orjson.OPT_INDENT_2).decode()
            response = _page("problem_type.html", problem_type=problem_type, sample=json)
        else:
            members = {**problem_type._asdict(), "title": problem_type.title, "sample": sample}
            response = _cacheable(Response(orjson.dumps(members), content_type="application/json"))
        response.vary.add("Accept")
        return response

    @docs.get(f"/docs/<any({','.join(repr(name) for name in ASSETS)}):name>")
    def docs_asset(name: str) -> Response:
        content_type = f"{guess_type(name)[0]}; charset=utf-8"
        response = Response(ASSETS[name], content_type=content_type)
        response.cache_control.max_age = 86_400
        return _cacheable(response)

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
    """Compress a response if the caller accepts it, and return 304 if the caller has it."""
    request = current_request()
    response.headers.setdefault("Cache-Control", "public, no-cache")
    response.vary.add("Accept-Encoding")
    if request.accept_encodings.quality("gzip") > 0:
        response.data = _compressed(response.data)
        response.content_encoding = "gzip"
    response.add_etag()
    response.make_conditional(request)
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        abort(response.status_code)
    return response


@lru_cache(maxsize=64)
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
