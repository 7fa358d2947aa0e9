"""Writes the samples of each operation's use, in curl, JavaScript and Python (`x-codeSamples`)."""

import json
from collections.abc import Mapping
from pprint import pformat

JSON_TYPE = "application/json"


def code_samples(
    method: str, url: str, security: str | None, body: Mapping[str, object] | None
) -> list[dict[str, str]]:
    """Return the samples of a request. Those of Python use the package requests."""
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(method, url, security, body)},
        {"lang": "JavaScript", "source": _javascript(method, url, security, body)},
        {"lang": "Python", "source": _python(method, url, security, body)},
    ]


def _curl(method: str, url: str, security: str | None, body: Mapping[str, object] | None) -> str:
    lines = [f"curl -X {method} {url}" if method != "GET" else f"curl {url}"]
    if security == "basicAuth":
        lines.append('-u "$USERNAME:$PASSWORD"')
    if security == "bearerAuth":
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None:
        text = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
        lines += [f"-H 'Content-Type: {JSON_TYPE}'", f"-d '{text}'"]
    return " \\\n  ".join(lines)


def _javascript(method: str, url: str, security: str | None, body: Mapping[str, object] | None) -> str:
    headers = []
    if security == "basicAuth":
        headers.append("Authorization: `Basic ${btoa(`${username}:${password}`)}`")
    if security == "bearerAuth":
        headers.append("Authorization: `Bearer ${token}`")
    if body is not None:
        headers.append(f'"Content-Type": "{JSON_TYPE}"')
    options = [f'method: "{method}"'] if method != "GET" else []
    options += [f"headers: {{ {', '.join(headers)} }}"] if headers else []
    options += [f"body: JSON.stringify({json.dumps(body, ensure_ascii=False)})"] if body is not None else []
    arguments = "".join(f"  {option},\n" for option in options)
    call = f'fetch("{url}", {{\n{arguments}}})' if options else f'fetch("{url}")'
    return f"const response = await {call};\nif (!response.ok) throw new Error(await response.text());"


def _python(method: str, url: str, security: str | None, body: Mapping[str, object] | None) -> str:
    arguments = [f'"{url}"']
    if security == "basicAuth":
        arguments.append("auth=(username, password)")
    if security == "bearerAuth":
        arguments.append('headers={"Authorization": f"Bearer {token}"}')
    if body is not None:
        value = pformat(dict(body), width=88, sort_dicts=False).replace("\n", "\n    " + " " * len("json="))
        arguments.append(f"json={value}")
    call = ",\n    ".join(arguments)
    return f"response = requests.{method.lower()}(\n    {call},\n)\nresponse.raise_for_status()"
