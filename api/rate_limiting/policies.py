"""The rate-limit policies, and the decorator with which a route selects them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from limits import RateLimitItemPerSecond, parse

from api.web.operation import View

SETTING_PREFIX = "RATE_LIMIT_"


class Policy(RateLimitItemPerSecond):
    """A named limit, in the form that the strategies of `limits` accept: `amount` units in so many seconds.

    The library composes the storage key from five parts, twice a request. Here the constant parts are
    composed once, which saves a tenth of the time of rate limiting.
    """

    __slots__ = ("field", "key_prefix", "name")

    def __init__(self, name: str, text: str) -> None:
        limit = parse(text)
        super().__init__(limit.amount, limit.get_expiry(), namespace=name)
        self.name = name
        self.key_prefix = super().key_for()
        # The item of the `RateLimit-Policy` field.
        self.field = f'"{name}";q={self.amount};w={self.get_expiry()}'

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """Return the storage key of a caller."""
        return f"{self.key_prefix}/{identifiers[0]!s}"


class RouteLimits(NamedTuple):
    """The arguments of `rate_limited`."""

    policy: str | None = None
    wrong_password: int | None = None


def rate_limited(policy: str | None = None, *, wrong_password: int | None = None) -> Callable[[View], View]:
    """Charge requests to `policy` by address, instead of to `reads` or `writes` by account or else address.

    `wrong_password` is the status of the response to a wrong password. With 401, the password is sent by HTTP
    Basic; with 403, in the body. Failures are counted by account and address (`sign_in_failures`). They also
    count for the account at all addresses together: with 401 in a policy of its own (`account_failures`),
    unless the account has signed in from the address recently; with 403 in `sign_in_failures`.
    """

    def decorate(view: View) -> View:
        view.__dict__["rate_limits"] = RouteLimits(policy, wrong_password)
        return view

    return decorate


def policies_from(config: Mapping[str, Any]) -> dict[str, Policy]:
    """Return the policies by name: the setting `RATE_LIMIT_READS` defines the policy `reads`."""
    settings = [setting for setting in config if setting.startswith(SETTING_PREFIX)]
    names = [setting.removeprefix(SETTING_PREFIX).lower() for setting in settings]
    return {name: Policy(name, config[setting]) for name, setting in zip(names, settings, strict=True)}
