"""The application factory.

Flask runs `before_request` hooks in the order in which they are registered here, and `after_request` hooks in
the reverse order.
"""

from flask import Flask

from api import cli, metrics
from api.auth import authentication
from api.config import API_PREFIX, Config
from api.contract import docs
from api.db import engine, transactions
from api.email_verifications.routes import email_verifications
from api.follows.routes import follows
from api.likes.routes import likes
from api.mail import sending
from api.password_resets.routes import password_resets
from api.posts.routes import posts
from api.rate_limiting import hooks
from api.rendering import renderer
from api.tokens.routes import tokens
from api.users.routes import users
from api.web import access_log, cors, health, json_body, monitoring, problems, proxies
from api.web.converters import IdConverter, UsernameConverter
from api.web.wrappers import Microblog


def create_app(config: Config | None = None) -> Flask:
    """Return the application, with the given settings or else those of the environment."""
    app = Microblog(__name__, static_folder=None)
    app.config.from_object(config or Config.from_environment())

    # Each URL has one spelling: with a trailing or doubled slash it is 404, rather than a redirect.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"id": IdConverter, "username": UsernameConverter}

    metrics.init_app(app)
    access_log.init_app(app)
    monitoring.init_app(app)
    engine.init_app(app)
    if app.config["OTEL_EXPORTER_OTLP_ENDPOINT"]:
        from api.web import tracing  # Its packages are an extra.

        tracing.init_app(app)
    problems.init_app(app)
    cors.init_app(app)
    hooks.init_app(app)
    json_body.init_app(app)
    authentication.init_app(app)
    sending.init_app(app)

    for resource in (users, posts, likes, follows, tokens, password_resets, email_verifications):
        app.register_blueprint(resource, url_prefix=API_PREFIX)
    docs.init_app(app)
    app.register_blueprint(health.health)
    cli.init_app(app)

    transactions.init_app(app)
    renderer.init_app(app)
    proxies.init_app(app)
    return app
