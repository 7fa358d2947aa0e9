"""The OpenAPI document, the documentation pages and the health checks."""

import re
from typing import Any

import orjson
import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient

from api.web.problems import PROBLEM_TYPES
from tests.conftest import DATABASES
from tests.support.contract import CONTRACT, CONTRACT_FILE
from tests.support.problems import assert_problem

PATHS = ["/openapi.yaml", "/openapi.json", "/docs", "/docs/problems", "/docs/docs.css"]


@pytest.fixture
def site(migrated_app: Flask) -> FlaskClient:
    """A client for URLs outside the contract."""
    return migrated_app.test_client()


class TestDocument:
    def test_is_served_as_the_committed_yaml_file(self, site: FlaskClient) -> None:
        response = site.get("/openapi.yaml")

        assert response.content_type == "application/yaml"
        assert response.data == CONTRACT_FILE.read_bytes()

    def test_is_served_as_json_with_the_same_content(self, site: FlaskClient) -> None:
        response = site.get("/openapi.json")

        assert response.content_type == "application/json"
        assert orjson.loads(response.data) == CONTRACT == yaml.safe_load(CONTRACT_FILE.read_bytes())

    @pytest.mark.parametrize("path", PATHS)
    def test_is_not_sent_again_if_unchanged(self, site: FlaskClient, path: str) -> None:
        with site.get(path) as first:
            etag = first.headers["ETag"]

        with site.get(path, headers={"If-None-Match": etag}) as response:
            assert response.status_code == 304
            assert response.data == b""
            assert response.headers["ETag"] == etag


class TestPages:
    @pytest.mark.parametrize("path", ["/docs", "/docs/problems"])
    def test_load_every_resource_from_this_service(self, site: FlaskClient, path: str) -> None:
        response = site.get(path)

        links = re.findall(r'(?:src|href)="([^"]*)"', response.text)
        base = path.rpartition("/")[0]
        assert links
        assert all("://" not in link for link in links)
        for link in links:
            with site.get(f"{base}/{link}") as found:
                assert found.status_code == 200, link
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy

    def test_explain_every_problem_at_its_anchor(self, site: FlaskClient) -> None:
        page = site.get("/docs/problems").text

        for problem_type in PROBLEM_TYPES.values():
            assert f'id="{problem_type.uri.partition("#")[2]}"' in page

    def test_do_not_serve_other_files(self, site: FlaskClient) -> None:
        response = site.get("/docs/../config.py")

        assert response.status_code == 404
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", PATHS)
def test_a_failed_precondition_is_a_problem(site: FlaskClient, path: str) -> None:
    response = site.get(path, headers={"If-Match": '"another"'})

    assert_problem(response, 412, "precondition_failed")


def test_readiness_requires_the_tables(new_app: Any, new_database_url: Any) -> None:
    for kind in DATABASES:
        response = new_app(new_database_url(kind)).test_client().get("/readyz")

        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_checks_succeed(site: FlaskClient, path: str) -> None:
    response = site.get(path)

    assert response.status_code == 200
    assert response.json == {"status": "ok"}
