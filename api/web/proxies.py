"""The headers of trusted proxies: the caller's address, and the scheme, host and prefix of the URL.

They are checked before they are used. Werkzeug's `ProxyFix` uses them as they are (decision 0042).
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from flask import Flask, Response

from api.web.wrappers import current_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SCHEMES = frozenset({"http", "https"})
HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?")
PORT = re.compile(r"[1-9][0-9]{0,4}")
# A path in which no character needs an escape, wherever it is written. `//host` is not a path.
PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
# A parameter of `Forwarded` or none, and what follows: another one, another element, or the end.
PARAMETER = re.compile(
    r"""[ \t]*(?:(?P<name>[\w!#$%&'*+.^`|~-]+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\s",;]*))?"""
    r"[ \t]*(?P<end>[,;]|\Z)",
    re.ASCII,
)


def init_app(app: Flask) -> None:
    """Apply the headers of trusted proxies to each request. All routes must be registered before."""
    if count := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = TrustedProxies(app, count)  # type: ignore[method-assign]
        app.after_request(_vary_by_prefix)


class TrustedProxies:
    """WSGI middleware that applies the headers of the proxies in front of the service to the environ.

    Each proxy appends its value to a header, or replaces the header. The last `count` values therefore come
    from proxies, and the first of these from the outermost one; the values before them come from the client.
    """

    def __init__(self, app: Flask, count: int) -> None:
        self._wsgi_app = app.wsgi_app
        self._count = count
        self._first_segments = {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Change the environ, and call the application."""
        elements = self._elements(environ)
        environ["REMOTE_ADDR"] = self._address(environ, elements)
        element = elements[-self._count :][0] if elements else {}
        for scheme in (self._values(environ, "PROTO")[0], element.get("proto", "")):
            if scheme.lower() in SCHEMES:
                environ["wsgi.url_scheme"] = scheme.lower()
                break
        for host in (self._values(environ, "HOST")[0], element.get("host", "")):
            if HOST.fullmatch(host):
                environ["HTTP_HOST"] = host
                break
        self._apply_port(environ)
        self._apply_prefix(environ)
        return self._wsgi_app(environ, start_response)

    def _values(self, environ: "WSGIEnvironment", name: str) -> list[str]:
        """Return the values of the trusted proxies in an `X-Forwarded-` header: "" if it is not sent."""
        values: list[str] = environ.get(f"HTTP_X_FORWARDED_{name}", "").split(",")
        return [value.strip() for value in values[-self._count :]]

    def _elements(self, environ: "WSGIEnvironment") -> list[dict[str, str]]:
        """Return the elements of `Forwarded`. Those of a malformed header have unknown addresses."""
        if "HTTP_FORWARDED" not in environ:
            return []
        return forwarded_elements(environ["HTTP_FORWARDED"]) or [{"for": "unknown"}] * self._count

    def _address(self, environ: "WSGIEnvironment", elements: list[dict[str, str]]) -> str:
        """Return the caller's IP address, that of the proxy if no header has it, or "" if it is unknown.

        A client can send the header that the proxies do not send. The address is unknown if the two differ.
        """
        proxy = environ.get("REMOTE_ADDR", "")
        addresses = set()
        if "HTTP_X_FORWARDED_FOR" in environ:
            values = self._values(environ, "FOR")
            addresses.add(address_of(values[0]) if len(values) == self._count else proxy)
        if len(elements) >= self._count and "for" in elements[-self._count]:
            addresses.add(address_of(elements[-self._count]["for"]))
        return "" if len(addresses) > 1 else next(iter(addresses), proxy)

    def _apply_port(self, environ: "WSGIEnvironment") -> None:
        """Add the port to a host without one; nginx's variable `$host` has none."""
        port = self._values(environ, "PORT")[0]
        host = HOST.fullmatch(environ.get("HTTP_HOST", ""))
        if PORT.fullmatch(port) and host and not host["port"]:
            environ["HTTP_HOST"] += f":{port}"

    def _apply_prefix(self, environ: "WSGIEnvironment") -> None:
        """Set the prefix at which the proxies serve the application, and remove it from the path.

        Proxies that each remove a part of the path append that part. One that removes nothing sends a path
        which is one of the application's after the prefix.
        """
        prefix = "".join(value.rstrip("/") for value in self._values(environ, "PREFIX"))
        if not PREFIX.fullmatch(prefix):
            return
        environ["SCRIPT_NAME"] = prefix
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(f"{prefix}/") and path[len(prefix) :].split("/")[1] in self._first_segments:
            environ["PATH_INFO"] = path[len(prefix) :]


def address_of(text: str) -> str:
    """Return the IP address in what a proxy reports of a caller; "" if there is none.

    It is written with or without a port, IPv6 addresses with or without brackets, and in quotes in
    `Forwarded` (RFC 7239, section 6). Zone ids are left out.
    """
    text = text.strip(' \t"')
    for address in (text, text.rpartition(":")[0]):
        with suppress(ValueError):
            parsed = ip_address(address.removeprefix("[").removesuffix("]"))
            return str(getattr(parsed, "ipv4_mapped", None) or parsed).partition("%")[0]
    return ""


def forwarded_elements(text: str) -> list[dict[str, str]]:
    """Return the elements of a `Forwarded` header (RFC 7239, section 4); none if it is malformed or empty.

    An address with a port need not be in quotes, since proxies send it without.
    """
    elements: list[dict[str, str]] = [{}] if text else []
    position = 0
    while position < len(text):
        found = PARAMETER.match(text, position)
        if found is None:
            return []
        if found["name"]:
            value = found["value"]
            elements[-1][found["name"].lower()] = (
                re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            )
        if found["end"] == ",":
            elements.append({})
        position = found.end()
    return elements


def _vary_by_prefix(response: Response) -> Response:
    """Keep a cache from giving URLs with a prefix that one client sent to other clients."""
    if current_request().root_path:
        response.vary.add("X-Forwarded-Prefix")
    return response
