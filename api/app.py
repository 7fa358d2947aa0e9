"""The one place where the parts meet; read from top to bottom."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import SessionInterface
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from api import access_log, auth, body, cli, cors, database, docs, errors, health, mail, rate_limits
from api.config import Config
from api.converters import IdConverter, UsernameConverter
from api.database import db
from api.email_verifications.routes import email_verifications
from api.follows.routes import follows
from api.likes.routes import likes
from api.messages import ApiRequest, ApiResponse
from api.password_resets.routes import password_resets
from api.posts.routes import posts
from api.tokens.routes import tokens
from api.users.routes import users

API_PREFIX = "/api/v1"


def create_app(config: Config | None = None) -> Flask:
    """Return the application, with the settings given or else those of the environment."""
    app = Microblog(__name__, static_folder=None)
    app.session_interface = NoSession()
    app.config.from_object(config or Config.from_environment())

    # An address is written in one way: with a slash too many it is not found, rather than redirected. (Those
    # that it begins with Werkzeug always takes for one.)
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"int": IdConverter, "username": UsernameConverter}

    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]

    access_log.init_app(app)
    database.init_app(app)
    errors.init_app(app)
    cors.init_app(app, cookie_path=f"{API_PREFIX}/tokens")
    rate_limits.init_app(app)
    body.init_app(app)
    auth.init_app(app)
    mail.init_app(app)

    for resource in (users, posts, likes, follows, tokens, password_resets, email_verifications):
        app.register_blueprint(resource, url_prefix=API_PREFIX)
    docs.init_app(app, API_PREFIX)
    app.register_blueprint(health.health)
    cli.init_app(app, API_PREFIX)
    return app


class NoSession(SessionInterface):
    """No `flask.session`: tokens are all that is kept of who calls."""

    def open_session(self, _app: Flask, _request: Request) -> None:
        """Look for no cookie."""


class Microblog(Flask):
    """A Flask application that does again what the database gave up."""

    request_class = ApiRequest
    response_class = ApiResponse

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as it is: none here is asynchronous, which Flask would look into at each call."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request, which does not depend on the host."""
        if request is None:
            return super().create_url_adapter(request)
        root, path, method = request.root_path, request.path, request.method
        return MapAdapter(self.url_map, "", root, "", "http", path, method)

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request; begin anew, twice at most, if its transaction was the victim of a deadlock.

        Deleting an account touches rows of many others, and what they write meanwhile cannot be foreseen.
        """
        for _ in range(2):
            try:
                return super().dispatch_request()
            except OperationalError as error:
                if not database.is_deadlock(error):
                    raise
                db.session.remove()
        return super().dispatch_request()
