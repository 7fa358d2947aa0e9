"""Charges each request before it is processed, and adds the `RateLimit` fields to its response.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple, cast

from flask import Flask, Response, current_app

from api.auth.authentication import access_claims, account_with_login, basic, folded_login
from api.db.transactions import retry_rolled_back
from api.metrics import begin_at_zero, count
from api.models import User
from api.rate_limiting.limiter import Limiter
from api.rate_limiting.policies import Policy, RouteLimits, policies_from
from api.web.problems import RETRY_AFTER_SECONDS, Problem
from api.web.wrappers import ApiRequest, current_request

UNLIMITED_BLUEPRINTS = frozenset({"docs", "health", "monitoring"})
DEFAULT_LIMITS = RouteLimits()
UNKNOWN_ADDRESS = "unknown"


class Charge(NamedTuple):
    """A unit of a policy that a request is charged.

    With a `failure_status`, it is refunded unless the response has that status.
    """

    policy: Policy
    key: str
    failure_status: int | None = None


def init_app(app: Flask) -> None:
    """Register the hooks that charge each request and add the fields."""
    rate_limits = app.extensions["rate_limits"] = RateLimits(app)
    app.before_request(rate_limits.before_request)
    app.after_request(rate_limits.after_request)


def reset_failures(user: User) -> None:
    """Refund the failed sign-ins of a user who has proved, from the caller's address, to own the account."""
    cast("RateLimits", current_app.extensions["rate_limits"]).reset_failures(user)


class RateLimits:
    """The hooks of one application, with its policies."""

    def __init__(self, app: Flask) -> None:
        self.limiter = Limiter(app.config["RATELIMIT_STORAGE_URL"], app.config["RATELIMIT_STORAGE_PREFIX"])
        self._policies = policies_from(app.config)
        begin_at_zero(app, "rate_limit_refusals", self._policies)
        self._view_functions = app.view_functions
        # The charges of requests that this process is processing and may still refund.
        self._in_flight: list[Charge] = []

    def before_request(self) -> None:
        """Charge the request; refuse it if one of its policies has no unit left."""
        request = current_request()
        for charge in self._charges(request):
            if not self.limiter.charge(charge.policy, charge.key):
                count("rate_limit_refusals", charge.policy.name)
                seconds = RETRY_AFTER_SECONDS
                if charge not in self._in_flight:
                    seconds = max(self.limiter.window(charge.policy, charge.key)[1], 1)
                headers = {**self._fields([charge]), "Retry-After": str(seconds)}
                raise Problem("too_many_requests", headers=headers)
            request.rate_limit_charges.append(charge)
            if charge.failure_status:
                self._in_flight.append(charge)

    def after_request(self, response: Response) -> Response:
        """Refund the charges for failures that did not happen, and add the `RateLimit` fields."""
        request = current_request()
        # If a later hook fails, Flask runs this one again for the error's response.
        charges, request.rate_limit_charges = request.rate_limit_charges, []
        for charge in charges:
            if charge.failure_status:
                self._finish(charge, response)
        if charges and response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            for name, value in self._fields(charges).items():
                response.headers.add(name, value)
        return response

    def reset_failures(self, user: User) -> None:
        """Refund the wrong passwords of an account, and make the caller's address known for it.

        Charges to other addresses remain.
        """
        account = _account_key(user.id)
        here = f"{account} {_address(current_request())}"
        self.limiter.reset(self._policies["sign_in_failures"], here)
        self.limiter.reset(self._policies["sign_in_failures"], account)
        self.limiter.reset(self._policies["account_failures"], account)
        self.limiter.remember(here)

    def _charges(self, request: ApiRequest) -> Iterator[Charge]:
        """Yield the charges of a request, in the order in which they are made.

        `sign_in_failures` comes before `account_failures`, so that a caller who guesses passwords from one
        address is refused before using up the account's quota, which the owner of the account shares.
        """
        if request.blueprint in UNLIMITED_BLUEPRINTS:
            return
        route_limits = DEFAULT_LIMITS
        if request.method != "OPTIONS":  # Flask responds to it without the view.
            view = self._view_functions.get(request.endpoint or "")
            route_limits = getattr(view, "rate_limits", DEFAULT_LIMITS)
        address = _address(request)
        account = None
        if route_limits.policy:
            yield Charge(self._policies[route_limits.policy], address)
        else:
            account = _account(request)
            policy = "reads" if request.is_safe else "writes"
            yield Charge(self._policies[policy], account or address)
        failure_status = route_limits.wrong_password
        if failure_status == HTTPStatus.UNAUTHORIZED:
            sent = basic.get_auth()
            if sent and sent.username:
                account = _account_named(sent.username)
                here = Charge(self._policies["sign_in_failures"], f"{account} {address}", failure_status)
                yield here
                if not self.limiter.is_known(here.key):
                    yield Charge(self._policies["account_failures"], account, failure_status)
        elif failure_status and account:
            for key in (f"{account} {address}", account):
                yield Charge(self._policies["sign_in_failures"], key, failure_status)

    def _finish(self, charge: Charge, response: Response) -> None:
        if response.status_code != charge.failure_status:
            self.limiter.refund(charge.policy, charge.key)
        self._in_flight.remove(charge)
        is_by_name = charge.failure_status == HTTPStatus.UNAUTHORIZED
        if is_by_name and charge.policy.name == "sign_in_failures" and response.status_code == HTTPStatus.OK:
            self.limiter.remember(charge.key)

    def _fields(self, charges: Iterable[Charge]) -> dict[str, str]:
        fields: dict[str, str] = {}
        windows: dict[str, tuple[int, int]] = {}
        for policy, key, _ in charges:
            fields[policy.name] = policy.field
            window = self.limiter.window(policy, key)
            # If a policy is charged for two keys, the one with fewer units left counts.
            windows[policy.name] = min(window, windows.get(policy.name, window))
        items = [f'"{name}";r={remaining};t={seconds}' for name, (remaining, seconds) in windows.items()]
        return {"RateLimit-Policy": ", ".join(fields.values()), "RateLimit": ", ".join(items)}


def _account(request: ApiRequest) -> str | None:
    """Return the key of the account that a valid access token is for. Its session may have ended."""
    sent = request.authorization
    claims = access_claims(sent.token) if sent and sent.type == "bearer" and sent.token else None
    return _account_key(claims[3]) if claims else None


@retry_rolled_back  # A hook is not retried as a view is.
def _account_named(name: str) -> str:
    """Return the key of the account with a username or email address; a hash of the name if there is none.

    Both are counted alike, so that the response does not reveal whether an account exists.
    """
    login = folded_login(name)
    user_id, *_ = account_with_login(login)
    return sha256(login.encode()).hexdigest() if user_id is None else _account_key(user_id)


def _account_key(user_id: int) -> str:
    return f"account {user_id}"


def _address(request: ApiRequest) -> str:
    return _address_key(request.remote_addr or "")


@lru_cache(10_000)
def _address_key(text: str) -> str:
    """Return the key of an address: the /64 network of an IPv6 address, since one host can use all of it.

    Callers without an address have one key. They could have any number of names.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(address, IPv6Address):
        # A dual-stack socket reports IPv4 addresses as mapped ones.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return text
