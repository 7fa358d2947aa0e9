"""How often callers may ask, and the fields that tell them so (draft-ietf-httpapi-ratelimit-headers-10)."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from flask import Config, Flask, Response
from limits import parse

from api.auth import access_claims, basic, folded_name
from api.errors import RETRY_AFTER_SECONDS, Problem
from api.messages import ApiRequest, current_request
from api.models import User
from api.quotas import Policy, Quota, store_at

UNLIMITED = frozenset({"docs", "health"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN = "tokens.create_token"
# What is counted apart from other writes, and by address whoever calls.
BY_ADDRESS = {
    SIGN_IN: "sign_in",
    "tokens.refresh_token": "sign_in",
    "password_resets.create_password_reset": "sign_in",
    "password_resets.redeem_password_reset": "sign_in",
    "email_verifications.redeem_email_verification": "sign_in",
    "users.create_user": "registration",
}
# What asks for a password, and how it refuses a wrong one.
WRONG_PASSWORD = {
    SIGN_IN: HTTPStatus.UNAUTHORIZED,
    "users.update_account": HTTPStatus.FORBIDDEN,
    "users.delete_account": HTTPStatus.FORBIDDEN,
    "users.change_password": HTTPStatus.FORBIDDEN,
}
FAILURES = frozenset({"sign_in_failures", "account_failures"})
PREFIX = "RATE_LIMIT_"


def init_app(app: Flask) -> None:
    """Count each request before anything else is done for it."""
    rate_limits = app.extensions["rate_limits"] = RateLimits(app.config)
    app.before_request(rate_limits.take)
    app.after_request(rate_limits.settle)


class RateLimits:
    """What is counted for a request, and what comes of it."""

    def __init__(self, config: Config) -> None:
        self.store = store_at(config["RATELIMIT_STORAGE_URL"])
        self._policies: dict[str, Policy] = {}
        for setting, limit in config.items():
            if setting.startswith(PREFIX):
                name = setting.removeprefix(PREFIX).lower()
                self._policies[name] = Policy(name, parse(limit))
        # What requests that are being answered here have taken of failures, and may give back in a moment.
        self._in_flight: list[Quota] = []

    def take(self) -> None:
        """Take a unit from each quota of the request; refuse it if one has none left."""
        request = current_request()
        for quota in self._quotas(request):
            if not self.store.take(quota):
                seconds = RETRY_AFTER_SECONDS
                if quota not in self._in_flight:
                    seconds = max(self.store.left(quota)[1], 1)
                headers = {**self._fields([quota]), "Retry-After": str(seconds)}
                raise Problem("too_many_requests", headers=headers)
            request.quotas.append(quota)
            if quota.policy.name in FAILURES:
                self._in_flight.append(quota)

    def settle(self, response: Response) -> Response:
        """Give back what was taken for a wrong password if it was none, and say what is left."""
        request = current_request()
        # Only once, even if what is done after this fails and that is answered in its place.
        quotas, request.quotas = request.quotas, []
        for quota in quotas:
            if quota.policy.name in FAILURES:
                self._settle_failure(request, quota, response)
        if request.recovered:
            self._recover(request.recovered, _address(request))
        if quotas and response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            for name, value in self._fields(quotas).items():
                response.headers.add(name, value)
        return response

    def _settle_failure(self, request: ApiRequest, quota: Quota, response: Response) -> None:
        endpoint = request.endpoint or ""
        if WRONG_PASSWORD[endpoint] != response.status_code:
            self.store.take(quota, -1)
        self._in_flight.remove(quota)
        has_signed_in = endpoint == SIGN_IN and response.status_code == HTTPStatus.OK
        if has_signed_in and quota.policy.name == "sign_in_failures":
            self.store.remember(quota.key)

    def _quotas(self, request: ApiRequest) -> Iterator[Quota]:
        """Give the quotas that a request draws on, in the order in which they are asked.

        Somebody who guesses passwords from one address comes to the end of `sign_in_failures`, and so does
        not use up `account_failures`, which the owner shares.
        """
        if request.blueprint in UNLIMITED:
            return
        address = _address(request)
        if request.method in READS:
            yield self._quota("reads", _account(request) or address)
        elif request.endpoint in BY_ADDRESS:
            yield self._quota(BY_ADDRESS[request.endpoint], address)
            sent = basic.get_auth() if request.endpoint == SIGN_IN else None
            if sent and sent.username:
                here, everywhere = self._failures(sent.username, address)
                yield here
                if not self.store.knows(here.key):
                    yield everywhere
        else:
            account = _account(request)
            yield self._quota("writes", account or address)
            if account and request.endpoint in WRONG_PASSWORD:
                yield self._quota("sign_in_failures", account)

    def _quota(self, policy: str, key: str) -> Quota:
        return Quota(self._policies[policy], key)

    def _failures(self, name: str, address: str) -> tuple[Quota, Quota]:
        """Return the quotas of wrong passwords for a name: from an address, and from everywhere."""
        hashed = sha256(folded_name(name).encode()).hexdigest()
        here = self._quota("sign_in_failures", f"{hashed} {address}")
        return here, self._quota("account_failures", hashed)

    def _recover(self, user: User, address: str) -> None:
        """Forget the wrong passwords for somebody who has proven to be the owner of an account."""
        self.store.clear(self._quota("sign_in_failures", _account_key(user.id)))
        for name in (user.username, user.email):
            here, everywhere = self._failures(name, address)
            self.store.clear(here)
            self.store.clear(everywhere)
            # From now on, somebody has signed in from this address.
            self.store.remember(here.key)

    def _fields(self, quotas: Iterable[Quota]) -> dict[str, str]:
        policies, rest = [], []
        for quota in quotas:
            units, seconds = self.store.left(quota)
            policies.append(quota.policy.text)
            rest.append(f'"{quota.policy.name}";r={units};t={seconds}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(rest)}


def _account(request: ApiRequest) -> str | None:
    """Return whose access token came with a request, if it is good by its signature."""
    sent = request.authorization
    claims = access_claims(sent.token) if sent and sent.type == "bearer" and sent.token else None
    return _account_key(claims[3]) if claims else None


def _account_key(user_id: int) -> str:
    return f"account {user_id}"


def _address(request: ApiRequest) -> str:
    return _place(request.remote_addr or "")


@lru_cache(10_000)
def _place(text: str) -> str:
    """Return what counts of an address: of IPv6 the first half, since the other is the caller's to choose."""
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address):
        # IPv4 addresses look like this on a socket that takes both.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return text
