"""How often callers may ask, and the fields that tell them so (draft-ietf-httpapi-ratelimit-headers-10)."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from threading import Lock, Timer
from typing import Any, NamedTuple, Self, TypeVar, cast

from flask import Flask, Response, current_app, g, request
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from api.auth import access_claims, basic, folded_name
from api.errors import RETRY_AFTER_SECONDS, Problem
from api.models import User

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
KNOWN_SECONDS = 30 * 24 * 3600
SWEEP_SECONDS = 60
REDIS_TIMEOUT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 5

Counter = SlidingWindowCounterRateLimiter
Answer = TypeVar("Answer")
limit_of = cache(parse)


class Quota(NamedTuple):
    """What a policy leaves to one caller."""

    policy: str
    key: str
    limit: RateLimitItem

    @classmethod
    def of(cls, policy: str, key: str) -> Self:
        """Return a caller's quota, of the size that the setting says."""
        return cls(policy, key, limit_of(current_app.config[f"RATE_LIMIT_{policy.upper()}"]))

    def take(self, units: int = 1) -> bool:
        """Take units, or give them back (-1); false if there are not as many left."""
        return _counts().ask(lambda counter: counter.hit(self.limit, self.policy, self.key, cost=units))

    def left(self) -> tuple[int, int]:
        """Return the units left, and for how many seconds there will be no more."""
        stats = _counts().ask(lambda counter: counter.get_window_stats(self.limit, self.policy, self.key))
        seconds = math.ceil(stats.reset_time - time.time())
        return min(stats.remaining, self.limit.amount), max(seconds, 0)

    def clear(self) -> None:
        """Give back all that was taken."""
        _counts().ask(lambda counter: counter.clear(self.limit, self.policy, self.key))


class Tally(NamedTuple):
    """What was taken in one window of so many seconds, numbered since 1970, and in the one before it."""

    seconds: int
    number: int = 0
    taken: int = 0
    taken_before: int = 0

    def at(self, moment: float) -> "Tally":
        """Return the tally of the window that a moment is in. (Clocks that are put back change nothing.)"""
        number = int(moment // self.seconds)
        if number <= self.number:
            return self
        return Tally(self.seconds, number, taken_before=self.taken if number == self.number + 1 else 0)

    def is_over(self, moment: float) -> bool:
        """Say whether it counts no longer."""
        return moment // self.seconds > self.number + 1


class Memory(MemoryStorage):
    """Counts in this process, one `Tally` for each quota.

    The library's own are several numbers with an expiry each, and take twice as long. All of them are looked
    through in a thread that is started anew after nearly every request; here it is done once a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tallies: dict[str, Tally] = {}
        self._lock = Lock()
        self._sweep_at = 0.0

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Take units, unless there are not as many left."""
        with self._lock:
            now = time.time()
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_SECONDS
                tallies = self._tallies.items()
                self._tallies = {each: tally for each, tally in tallies if not tally.is_over(now)}
            tally = self._tallies.get(key, Tally(expiry)).at(now)
            if math.floor(tally.taken_before * (1 - now / expiry % 1) + tally.taken) + amount > limit:
                return False
            self._tallies[key] = tally._replace(taken=tally.taken + amount)
            return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return what was taken before, for how long that still counts, and the same of what is taken now."""
        now = time.time()
        tally = self._tallies.get(key, Tally(expiry)).at(now)
        seconds = (1 - now / expiry % 1) * expiry
        return tally.taken_before, seconds, tally.taken, seconds + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002
        """Give back all that was taken."""
        with self._lock:
            self._tallies.pop(key, None)

    def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802 -- the library's private name.
        # Of keys that are there for a time and no tallies, as those of known addresses.
        if not self.timer.is_alive():
            self.timer = Timer(SWEEP_SECONDS, self._MemoryStorage__expire_events)  # type: ignore[attr-defined]
            self.timer.daemon = True
            self.timer.start()


class Counts:
    """The counts of requests: where the setting says or, while that cannot be reached, in this process.

    They are of sliding windows: two numbers for each quota, whatever the limit, and no burst where one
    window ends and the next begins; and a unit can be given back.
    """

    def __init__(self, url: str) -> None:
        options: Any = {
            "socket_timeout": REDIS_TIMEOUT_SECONDS,
            "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
            # A connection that broke is made anew at once; one that hangs is not waited for twice. The
            # library's own way is to try for seconds.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        }
        self._own = Counter(Memory())
        self._shared = self._own
        if url != "memory://":
            self._shared = Counter(storage_from_string(url, wrap_exceptions=True, **options))
        # What requests that are being answered here have taken of failures, and may give back in a moment.
        self.in_flight: list[Quota] = []
        self._lock = Lock()
        self._is_away = False
        self._pause_ends = 0.0

    def ask(self, question: Callable[[Counter], Answer]) -> Answer:
        """Return what a counter says to a question."""
        if time.monotonic() >= self._pause_ends:
            try:
                answer = question(self._shared)
            except StorageError as error:
                self._do_without(error)
            else:
                self._is_away = False
                return answer
        return question(self._own)

    def _do_without(self, error: StorageError) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
            self._pause_ends = time.monotonic() + REDIS_PAUSE_SECONDS
        if not was_away:
            current_app.logger.warning("Redis is away; each process counts requests by itself: %r", error)


def init_app(app: Flask) -> None:
    """Count each request before anything else is done for it."""
    app.extensions["counts"] = Counts(app.config["RATELIMIT_STORAGE_URL"])
    app.before_request(_take)
    app.after_request(_settle)


def _counts() -> Counts:
    return cast("Counts", current_app.extensions["counts"])


def _take() -> None:
    """Take a unit from each quota of the request; refuse it if one has none left."""
    quotas: list[Quota] = []
    g.quotas = quotas
    in_flight = _counts().in_flight
    for quota in _quotas():
        if not quota.take():
            seconds = RETRY_AFTER_SECONDS if quota in in_flight else max(quota.left()[1], 1)
            headers = {**_fields([quota]), "Retry-After": str(seconds)}
            raise Problem("too_many_requests", headers=headers)
        quotas.append(quota)
        if quota.policy in FAILURES:
            in_flight.append(quota)


def _settle(response: Response) -> Response:
    """Give back what was taken for a wrong password if it was none, and say what is left."""
    quotas: list[Quota] = g.pop("quotas", [])
    for quota in quotas:
        if quota.policy not in FAILURES:
            continue
        if WRONG_PASSWORD[request.endpoint or ""] != response.status_code:
            quota.take(-1)
        _counts().in_flight.remove(quota)
        has_signed_in = request.endpoint == SIGN_IN and response.status_code == HTTPStatus.OK
        if has_signed_in and quota.policy == "sign_in_failures":
            _remember(quota.key)
    if "recovered" in g:
        _recover(g.recovered)
    if quotas and "RateLimit" not in response.headers:
        response.headers.extend(_fields(quotas))
    return response


def _quotas() -> Iterator[Quota]:
    """Give the quotas that a request draws on, in the order in which they are asked.

    Somebody who guesses passwords from one address comes to the end of `sign_in_failures`, and so does not
    use up `account_failures`, which the owner shares.
    """
    if request.blueprint in UNLIMITED:
        return
    address = _address()
    if request.method in READS:
        yield Quota.of("reads", _account() or address)
    elif request.endpoint in BY_ADDRESS:
        yield Quota.of(BY_ADDRESS[request.endpoint], address)
        sent = basic.get_auth() if request.endpoint == SIGN_IN else None
        if sent and sent.username:
            here, everywhere = _failures(sent.username)
            yield here
            if not _is_known(here.key):
                yield everywhere
    else:
        account = _account()
        yield Quota.of("writes", account or address)
        if account and request.endpoint in WRONG_PASSWORD:
            yield Quota.of("sign_in_failures", account)


def _failures(name: str) -> tuple[Quota, Quota]:
    """Return the quotas of wrong passwords for a name: from the caller's address, and from everywhere."""
    hashed = sha256(folded_name(name).encode()).hexdigest()
    return Quota.of("sign_in_failures", f"{hashed} {_address()}"), Quota.of("account_failures", hashed)


def _recover(user: User) -> None:
    """Forget the wrong passwords for somebody who has proven to be the owner of an account."""
    Quota.of("sign_in_failures", _account_key(user.id)).clear()
    for name in (user.username, user.email):
        here, everywhere = _failures(name)
        here.clear()
        everywhere.clear()
        _remember(here.key)


def _remember(place: str) -> None:
    """Remember, from now on, that somebody has signed in from an address."""
    key = f"known {place}"
    # A key that is there keeps the expiry that it was made with.
    _counts().ask(lambda counter: counter.storage.clear(key))
    _counts().ask(lambda counter: counter.storage.incr(key, KNOWN_SECONDS))


def _is_known(place: str) -> bool:
    return bool(_counts().ask(lambda counter: counter.storage.get(f"known {place}")))


def _account() -> str | None:
    """Return whose access token came with the request, if it is good by its signature."""
    sent = request.authorization
    claims = access_claims(sent.token) if sent and sent.type == "bearer" and sent.token else None
    return _account_key(claims[3]) if claims else None


def _account_key(user_id: int) -> str:
    return f"account {user_id}"


def _address() -> str:
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


def _fields(quotas: Iterable[Quota]) -> dict[str, str]:
    policies, rest = [], []
    for quota in quotas:
        units, seconds = quota.left()
        policies.append(f'"{quota.policy}";q={quota.limit.amount};w={quota.limit.get_expiry()}')
        rest.append(f'"{quota.policy}";r={units};t={seconds}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(rest)}
