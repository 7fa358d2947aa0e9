"""The OpenAPI document, the documentation pages and the health checks."""

import gzip
import re
from typing import Any
from urllib.parse import urljoin

import orjson
import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient

from api.contract.docs import ASSETS
from api.web.problem_types import INPUT_ERRORS, PROBLEM_TYPES
from tests.support.contract import CONTRACT, CONTRACT_FILE, schema_errors
from tests.support.databases import on_sqlite
from tests.support.problems import assert_problem

PATHS = [
    "/openapi.yaml",
    "/openapi.json",
    "/docs",
    "/docs/docs.css",
    "/docs/rapidoc-min.js",
    "/problems",
    "/problems/not_found",
]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def site(migrated_app: Flask) -> FlaskClient:
    """A client for URLs outside the contract."""
    return migrated_app.test_client()


@on_sqlite
class TestDocument:
    def test_is_served_as_the_committed_yaml_file(self, site: FlaskClient) -> None:
        response = site.get("/openapi.yaml")

        assert response.content_type == "application/yaml"
        assert response.data == CONTRACT_FILE.read_bytes()

    def test_is_served_as_json_with_the_same_content(self, site: FlaskClient) -> None:
        response = site.get("/openapi.json")

        assert response.content_type == "application/json"
        # `CONTRACT` is read by libyaml, which wrote the file; other parsers must find the same in it.
        assert orjson.loads(response.data) == CONTRACT == yaml.safe_load(CONTRACT_FILE.read_bytes())

    @pytest.mark.parametrize("path", PATHS)
    def test_is_not_sent_again_if_unchanged(self, site: FlaskClient, path: str) -> None:
        with site.get(path) as first:
            etag = first.headers["ETag"]

        with site.get(path, headers={"If-None-Match": etag}) as response:
            assert response.status_code == 304
            assert response.data == b""
            assert response.headers["ETag"] == etag


@on_sqlite
class TestPages:
    @pytest.mark.parametrize("path", ["/docs", "/problems", "/problems/not_found"])
    def test_load_every_resource_from_this_service(self, site: FlaskClient, path: str) -> None:
        response = site.get(path, headers=BROWSER)

        links = re.findall(r'(?:src|href)="([^"]*)"', response.text)
        assert links
        assert all("://" not in link for link in links)
        for link in links:
            with site.get(urljoin(f"http://localhost{path}", link), headers=BROWSER) as found:
                assert found.status_code == 200, link
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)

    @pytest.mark.parametrize("code", PROBLEM_TYPES)
    def test_explain_every_problem_type(self, site: FlaskClient, code: str) -> None:
        path = PROBLEM_TYPES[code].uri()

        page = site.get(path, headers=BROWSER)
        document = site.get(path).json

        assert page.content_type == "text/html; charset=utf-8"
        assert "Accept" in page.headers["Vary"].split(", ")
        assert f"<h1><code>{code}</code></h1>" in page.text
        assert "<code>" in page.text or "`" not in page.text
        assert document["code"] == document["sample"]["code"] == code
        assert document["sample"]["type"] == path
        assert len(document["advice"]) > 20
        assert not schema_errors({"$ref": "#/components/schemas/Problem"}, document["sample"])

    def test_explain_the_codes_of_invalid_input(self, site: FlaskClient) -> None:
        page = site.get("/problems").text

        assert all(f"<code>{code}</code>" in page for code in (*PROBLEM_TYPES, *INPUT_ERRORS))

    def test_of_an_unknown_problem_type_is_not_found(self, site: FlaskClient) -> None:
        assert_problem(site.get("/problems/unknown"), 404, "not_found")

    def test_do_not_serve_other_files(self, site: FlaskClient) -> None:
        response = site.get("/docs/../config.py")

        assert response.status_code == 404
        assert response.content_type == "application/problem+json"


@on_sqlite
@pytest.mark.parametrize("path", PATHS)
def test_a_failed_precondition_is_a_problem(site: FlaskClient, path: str) -> None:
    response = site.get(path, headers={"If-Match": '"another"'})

    assert_problem(response, 412, "precondition_failed")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_checks_succeed(site: FlaskClient, path: str) -> None:
    response = site.get(path)

    assert response.status_code == 200
    assert response.json == {"status": "ok"}


@on_sqlite
class TestCompression:
    @pytest.mark.parametrize("path", PATHS)
    def test_is_used_if_the_caller_accepts_it(self, site: FlaskClient, path: str) -> None:
        plain = site.get(path)
        compressed = site.get(path, headers={"Accept-Encoding": "gzip"})

        assert "Content-Encoding" not in plain.headers
        assert compressed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(compressed.data) == plain.data
        assert "Accept-Encoding" in compressed.headers["Vary"]
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert compressed.headers["ETag"] != plain.headers["ETag"]

    def test_loads_the_page_within_half_a_megabyte(self, site: FlaskClient) -> None:
        paths = ["/docs", "/openapi.json", *(f"/docs/{name}" for name in ASSETS if "LICENSE" not in name)]

        sizes = [len(site.get(path, headers={"Accept-Encoding": "gzip"}).data) for path in paths]

        assert sum(sizes) < 500_000


class TestPublicURL:
    @pytest.fixture
    def public(self, new_app: Any) -> FlaskClient:
        """A client of a service that knows its URL."""
        client: FlaskClient = new_app(
            "sqlite:///:memory:x", PUBLIC_URL="https://api.example.com"
        ).test_client()
        return client

    def test_makes_the_urls_of_the_document_absolute(self, public: FlaskClient) -> None:
        document = public.get("/openapi.json").json

        assert [server["url"] for server in document["servers"]] == ["https://api.example.com/api/v1"]
        assert document["externalDocs"]["url"] == "https://api.example.com/docs"

    def test_makes_the_types_of_problems_absolute(self, public: FlaskClient) -> None:
        uri = "https://api.example.com/problems/not_found"

        assert public.get("/nowhere").json["type"] == uri
        assert public.get("/problems/not_found").json["sample"]["type"] == uri
