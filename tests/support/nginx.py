"""A proxy for tests: nginx, with the site in `deploy/nginx` or another configuration."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from api.config import ROOT
from tests.support.server import free_port, wait_until_open

# Debian has it in a folder that is not in the PATH of all users.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed")

SITE = ROOT / "deploy" / "nginx"
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


@contextmanager
def running_nginx(folder: Path, port: int, http: str) -> Iterator[None]:  # pragma: no cover -- needs nginx
    """Run nginx with directives for its block `http`, from when it listens on a port."""
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, http=http), "utf-8")
    command = [
        str(NGINX),
        "-p",
        str(folder),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(folder / "nginx.conf"),
    ]
    with subprocess.Popen(command) as process:
        try:
            wait_until_open(port)
            yield
        finally:
            process.terminate()


@contextmanager
def running_site(
    folder: Path, authority: trustme.CA, service_port: int, addition: str = ""
) -> Iterator[tuple[str, str]]:  # pragma: no cover -- needs nginx
    """Run nginx with the site in `deploy/nginx`, and yield its URLs with and without TLS.

    Only addresses and folders are replaced. `addition` are directives for the server with TLS.
    """
    folder.mkdir()
    (folder / "acme").mkdir()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    port, plain_port = free_port(), free_port()
    http = (SITE / "upstream.conf").read_text("utf-8") + (SITE / "microblog.conf").read_text("utf-8")
    for deployed, tested in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{service_port};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "listen [::]:443 ssl http2;": "",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen [::]:80;": "",
        "/etc/microblog/tls": str(folder),
        "/var/www/acme": str(folder / "acme"),
    }.items():
        assert deployed in http
        http = http.replace(deployed, tested)
    http = http.rstrip().removesuffix("}") + addition + "}"
    with running_nginx(folder, port, http):
        yield f"https://127.0.0.1:{port}", f"http://127.0.0.1:{plain_port}"
