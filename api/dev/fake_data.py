"""Rows of fake users, posts, follows and likes for `flask seed`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, permutations, product
from random import Random
from typing import Any, TypeAlias, TypeVar

from mimesis import Food, Locale, Person

from api.db.search_text import words_of

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[int, int]

# All users register in the first weeks of one year. Everything else follows in the rest of it.
YEAR, REGISTRATION = timedelta(days=365), timedelta(days=35)
BODY_MAXIMUM = 140
REPLY_SHARE, HASHTAG_SHARE, MENTION_SHARE, URL_SHARE = 0.2, 0.4, 0.1, 0.05  # Of all posts.
# So many random pairs are tried for each pair of users, or of a user and a post.
ATTEMPTS = 50
REPLY_DISTANCE = 100  # A reply refers to one of this many posts before it.
# A sentence in a fixed number of posts, so that benchmarks of the search have a rare word.
RARE_SENTENCE, RARE_POSTS = "Look, a zeppelin!", 30
SENTENCES = [
    (Locale.EN, "The {dish} is ready."),
    (Locale.EN, "The {fruit} at the market is better today than it was last week."),
    (Locale.EN, "Is there a good recipe for {dish} without {spice}?"),
    (Locale.EN, "More {spice} in the {dish} next time 🙂"),
    (Locale.EN, "{dish} with {vegetable}, and {fruit} for dessert."),
    (Locale.DE, "{dish} schmeckt mit {vegetable} noch schöner."),
    (Locale.FR, "Un peu de {spice}, et le {vegetable} était délicieux."),
    (Locale.RU, "Сегодня {dish} и {fruit}."),
    (Locale.JA, "今日は{dish}と{fruit}。"),
]


class FakeData:
    """The rows of one year, which ends at `until`.

    Rows get the ids in `user_ids` and `post_ids`. Usernames and email addresses differ from those in `taken`,
    which already exist. The same arguments return the same rows.
    """

    def __init__(
        self,
        user_ids: range,
        post_ids: range,
        *,
        follows: int,
        likes: int,
        taken: set[str],
        until: datetime,
        random_seed: int,
    ) -> None:
        self._random = random = Random(random_seed)  # noqa: S311 -- not used for secrets.
        self._person = Person(Locale.EN, seed=random_seed)
        self._foods = {locale: Food(locale, seed=random_seed) for locale, _ in SENTENCES}
        self._hashtags = self._make_hashtags()
        self._until = until
        begin = until - YEAR + REGISTRATION
        self.usernames = dict(zip(user_ids, self._make_usernames(taken), strict=False))
        self._registered_at = self._sorted_times(len(user_ids), until - YEAR, begin)
        self._posted_at = dict(zip(post_ids, self._sorted_times(len(post_ids), begin, until), strict=True))
        self._followed_at = self._sorted_times(follows, begin, until)
        # Most popular first.
        self._users = random.sample(user_ids, len(user_ids))
        self._posts = random.sample(post_ids, len(post_ids))
        self._authors = {post_id: self._zipf(self._users) for post_id in post_ids}
        self._replies_to = {post_id: self._choose_parent(post_ids, post_id) for post_id in post_ids}
        self._rare = set(random.sample(post_ids, min(RARE_POSTS, len(post_ids))))
        self._follows = self._distinct(self._random_follows(), permutations(user_ids, 2), follows)
        self._likes = self._distinct(self._random_likes(), product(user_ids, post_ids), likes)

    def users(self, password_hash: str) -> Iterator[Row]:
        """Generate the rows of users."""
        posts = Counter(self._authors.values())
        following = Counter(follower_id for follower_id, _ in self._follows)
        followers = Counter(followed_id for _, followed_id in self._follows)
        for (user_id, username), registered_at in zip(
            self.usernames.items(), self._registered_at, strict=True
        ):
            yield {
                "id": user_id,
                "username": username,
                "email": _email(username),
                "password_hash": password_hash,
                "about": self._random.choice(["", f"{self._person.occupation()}."]),
                "created_at": registered_at,
                "post_count": posts[user_id],
                "follower_count": followers[user_id],
                "following_count": following[user_id],
                "version": 1,
            }

    def posts(self) -> Iterator[Row]:
        """Generate the rows of posts."""
        likes = Counter(post_id for _, post_id in self._likes)
        replies = Counter(self._replies_to.values())
        for post_id, parent_id in self._replies_to.items():
            body = self._make_body(post_id)
            yield {
                "id": post_id,
                "body": body,
                "words": words_of(body),
                "timestamp": self._posted_at[post_id],
                "user_id": self._authors[post_id],
                "is_reply": parent_id is not None,
                "in_reply_to_id": parent_id,
                "like_count": likes[post_id],
                "reply_count": replies[post_id],
                "version": 1,
            }

    def follows(self) -> Iterator[Row]:
        """Generate the rows of follows."""
        for (follower_id, followed_id), followed_at in zip(self._follows, self._followed_at, strict=True):
            yield {"follower_id": follower_id, "followed_id": followed_id, "created_at": followed_at}

    def likes(self) -> Iterator[Row]:
        """Generate the rows of likes, in the order of their time."""
        posted_at = self._posted_at
        for liked_at, user_id, post_id in sorted(
            (self._later(posted_at[post_id]), user_id, post_id) for user_id, post_id in self._likes
        ):
            yield {"user_id": user_id, "post_id": post_id, "created_at": liked_at}

    def _make_hashtags(self) -> list[str]:
        """Return the names of fruit that are one word, in a random order."""
        fruits = {food.fruit() for food in self._foods.values() for _ in range(1_000)}
        hashtags = sorted({f"#{fruit.lower()}" for fruit in fruits if fruit.isalpha()})
        return self._random.sample(hashtags, len(hashtags))

    def _make_usernames(self, taken: set[str]) -> Iterator[str]:
        """Generate an endless sequence of new usernames, and add them to `taken`."""
        while True:
            username = self._person.first_name().lower()
            if username in taken:
                username += "." + self._person.last_name().lower().replace("'", "")
            if username in taken:
                username += str(self._random.randrange(2, 10_000))
            if len(username) > 2 and taken.isdisjoint({username, _email(username)}):
                taken.add(username)
                yield username

    def _make_body(self, post_id: int) -> str:
        """Return a body of random parts, as many of them as fit into a post."""
        parent_id = self._replies_to[post_id]
        parts = [] if parent_id is None else [f"@{self.usernames[self._authors[parent_id]]}"]
        parts += [RARE_SENTENCE] if post_id in self._rare else []
        parts += [self._make_sentence() for _ in range(self._random.randint(1, 2))]
        parts += [self._zipf(self._hashtags)] if self._random.random() < HASHTAG_SHARE else []
        if self._random.random() < MENTION_SHARE:
            parts.append(f"@{self.usernames[self._zipf(self._users)]}")
        if self._random.random() < URL_SHARE:
            parts.append(f"https://example.org/recipes/{self._random.randrange(10_000)}")
        body = ""
        for part in parts:
            if len(body) + len(part) <= BODY_MAXIMUM:
                body += f" {part}"
        return body[1:]

    def _make_sentence(self) -> str:
        locale, template = self._random.choice(SENTENCES)
        food = self._foods[locale]
        return template.format(
            dish=food.dish(), fruit=food.fruit(), spice=food.spices(), vegetable=food.vegetable()
        )

    def _sorted_times(self, count: int, begin: datetime, end: datetime) -> list[datetime]:
        fractions = sorted(self._random.random() for _ in range(count))
        return [begin + (end - begin) * fraction for fraction in fractions]

    def _later(self, time: datetime) -> datetime:
        """Return a random later time; early ones are more frequent."""
        return time + (self._until - time) * self._random.random() ** 3

    def _zipf(self, choices: Sequence[T]) -> T:
        """Return a random element; the nth is about 1/n as frequent as the first (Zipf's law)."""
        return choices[int((len(choices) + 1) ** self._random.random()) - 1]

    def _choose_parent(self, post_ids: range, post_id: int) -> int | None:
        """Return the id of the post to which a post replies, or None if it is not a reply."""
        recent = range(max(post_ids.start, post_id - REPLY_DISTANCE), post_id)[::-1]
        return self._zipf(recent) if recent and self._random.random() < REPLY_SHARE else None

    def _random_follows(self) -> Iterator[Pair]:
        while True:
            follower_id, followed_id = self._random.choice(self._users), self._zipf(self._users)
            if follower_id != followed_id:
                yield follower_id, followed_id

    def _random_likes(self) -> Iterator[Pair]:
        while True:
            yield self._zipf(self._users), self._zipf(self._posts)

    def _distinct(self, pairs: Iterator[Pair], possible: Iterator[Pair], count: int) -> list[Pair]:
        """Return `count` distinct pairs: random ones or, where these repeat themselves, any possible ones."""
        distinct: dict[Pair, None] = {}
        attempts = islice(pairs, ATTEMPTS * count)
        while len(distinct) < count and (pair := next(attempts, None)):
            distinct[pair] = None
        if len(distinct) < count:
            others = [pair for pair in possible if pair not in distinct]
            distinct |= dict.fromkeys(self._random.sample(others, count - len(distinct)))
        return list(distinct)


def _email(username: str) -> str:
    return f"{username}@example.com"
