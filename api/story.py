"""What made-up users do: the rows of a believable year."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeAlias, TypeVar

from api.text import words_of

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[int, int]

BODY_MAXIMUM = 140
# Everybody joins in the first weeks of a year, and writes in the rest of it.
YEAR, JOINING = timedelta(days=365), timedelta(days=35)
RECENT = 100  # How many posts one may think of answering.
REPLIES, TAGS, MENTIONS = 0.2, 0.4, 0.1  # The share of posts that have one.
# A word to search for that is rare however many posts there are.
RARE_SENTENCE, RARE_POSTS = "Look, a zeppelin!", 30

NAMES = """
    ada aisha amir ana ann bao ben bruno carla chen clara daan dina elif emma eva farid felix finn gita hana
    hugo ida ines ivan jana jonas julia kai karim keiko lars lea lena leo lin lucia maja marco mei mila mina
    nadia nils nina noor olga omar oskar pablo paul petra priya rafa rosa sam sara sofia tariq theo tomas uma
    vera viktor wanda yara yusuf zoe
""".split()
THINGS = "bakery bicycle bridge cat dog heron kettle lamp letter moon fox raven piano teapot train".split()
TOPICS = """
    coffee cycling books gardens bread chess jazz maps birds film opera poetry rowing tea bees cheese clouds
    football frühling history ink kites knitting lichen moss moths mountains océan pottery radio rivers
    running sailing stars swimming trees typography volcanoes weather
""".split()
WORDS = {
    "topic": TOPICS,
    "other_topic": TOPICS,
    "thing": THINGS,
    "other_thing": THINGS,
    "place": "café garden harbour hill kitchen library market museum park roof station".split(),
    "mood": "better brighter colder louder lovelier quieter slower stranger warmer".split(),
    "time": ["again", "at last", "every day", "this morning", "this week", "today", "tonight"],
}
ABOUTS = ["", "Mostly {topic}.", "{topic} by day, {other_topic} by night.", "By the {place}, with a {thing}."]
SENTENCES = [
    "🙂",
    "No.",
    "{mood} {time}, thank you.",
    "The {thing} by the {place} is {mood} than I remember.",
    "Who else thinks about {topic} {time}?",
    "The {thing} and the {other_thing} look {mood} {time}.",
    "Off to the {place} with nothing but {topic} on my mind.",
    "I saw a {thing} by the {place} {time}, {mood} than ever.",
    "Good morning to all #{topic} people, and to the {thing}.",
    "A day without {topic} is a day of {other_topic}.",
    "Reading about {topic} in the {place}; everything is {mood} here.",
    "“{topic}? {mood}”, said the {thing}.",
    "What is {mood} than a {thing}? Two of them.",
    "今日は{topic}と{other_topic}。",
]


class Story:
    """Who does what, and when, in the year before a moment. As in life, a few do the most and get the most.

    The new users and posts have the ids given; neither the names nor the e-mail addresses of the users are
    `taken`, to which the names are added. The same arguments make the same story.
    """

    def __init__(
        self,
        users: range,
        posts: range,
        *,
        follows: int,
        likes: int,
        taken: set[str],
        until: datetime,
        random_seed: int,
    ) -> None:
        self._random = random = Random(random_seed)  # noqa: S311 -- it makes no secrets.
        begin, self._until = until - YEAR + JOINING, until
        self.names = dict(zip(users, self._usernames(taken), strict=False))
        self._joined = self._moments(len(users), until - YEAR, begin)
        self._written = dict(zip(posts, self._moments(len(posts), begin, until), strict=True))
        self._followed = self._moments(follows, begin, until)
        # Who stands first, and what does, is chosen most.
        self._people = random.sample(users, len(users))
        self._favourites = random.sample(posts, len(posts))
        self._authors = {post_id: self._one_of(self._people) for post_id in posts}
        self._answered = {post_id: self._recent(posts, post_id) for post_id in posts}
        self._rare = set(random.sample(posts, min(RARE_POSTS, len(posts))))
        self._follows = _distinct(self._pairs_of_people(), follows)
        self._likes = _distinct(self._people_and_favourites(), likes)

    def users(self, password_hash: str) -> Iterator[Row]:
        """Give the rows of users."""
        written = Counter(self._authors.values())
        following = Counter(follower_id for follower_id, _ in self._follows)
        followers = Counter(followed_id for _, followed_id in self._follows)
        for (user_id, name), joined_at in zip(self.names.items(), self._joined, strict=True):
            yield {
                "id": user_id,
                "username": name,
                "email": _address(name),
                "password_hash": password_hash,
                "about": self._phrase(ABOUTS),
                "created_at": joined_at,
                "post_count": written[user_id],
                "follower_count": followers[user_id],
                "following_count": following[user_id],
                "version": 1,
            }

    def posts(self) -> Iterator[Row]:
        """Give the rows of posts."""
        likes = Counter(post_id for _, post_id in self._likes)
        replies = Counter(self._answered.values())
        for post_id, answered_id in self._answered.items():
            body = self._body(post_id)
            yield {
                "id": post_id,
                "body": body,
                "words": words_of(body),
                "timestamp": self._written[post_id],
                "user_id": self._authors[post_id],
                "is_reply": answered_id is not None,
                "in_reply_to_id": answered_id,
                "like_count": likes[post_id],
                "reply_count": replies[post_id],
                "version": 1,
            }

    def follows(self) -> Iterator[Row]:
        """Give the rows of follows."""
        for (follower_id, followed_id), moment in zip(self._follows, self._followed, strict=True):
            yield {"follower_id": follower_id, "followed_id": followed_id, "created_at": moment}

    def likes(self) -> Iterator[Row]:
        """Give the rows of likes."""
        written = self._written
        liked = sorted((self._after(written[post_id]), user_id, post_id) for user_id, post_id in self._likes)
        for moment, user_id, post_id in liked:
            yield {"user_id": user_id, "post_id": post_id, "created_at": moment}

    def _usernames(self, taken: set[str]) -> Iterator[str]:
        while True:
            name = self._random.choice(NAMES)
            if name in taken:
                name += self._random.choice("._-") + self._random.choice(THINGS)
            if name in taken:
                name += str(self._random.randrange(2, 10_000))
            if taken.isdisjoint({name, _address(name)}):
                taken.add(name)
                yield name

    def _moments(self, count: int, begin: datetime, end: datetime) -> list[datetime]:
        shares = sorted(self._random.random() for _ in range(count))
        return [begin + (end - begin) * share for share in shares]

    def _after(self, moment: datetime) -> datetime:
        """Choose a later moment, more often soon than late."""
        return moment + (self._until - moment) * self._random.random() ** 3

    def _one_of(self, choices: Sequence[T]) -> T:
        """Choose as people choose words: the nth about one nth as often as the first (Zipf's law)."""
        return choices[int((len(choices) + 1) ** self._random.random()) - 1]

    def _recent(self, posts: range, post_id: int) -> int | None:
        """Choose what a post answers, if anything."""
        recent = range(max(posts.start, post_id - RECENT), post_id)[::-1]
        return self._one_of(recent) if recent and self._random.random() < REPLIES else None

    def _pairs_of_people(self) -> Iterator[Pair]:
        while True:
            one, other = self._random.choice(self._people), self._one_of(self._people)
            if one != other:
                yield one, other

    def _people_and_favourites(self) -> Iterator[Pair]:
        while True:
            yield self._one_of(self._people), self._one_of(self._favourites)

    def _phrase(self, phrases: Sequence[str]) -> str:
        words = {kind: self._random.choice(words) for kind, words in WORDS.items()}
        phrase = self._random.choice(phrases).format(**words)
        return phrase[:1].upper() + phrase[1:]

    def _body(self, post_id: int) -> str:
        """Return as many parts of a text as there is room for."""
        answered_id = self._answered[post_id]
        parts = [] if answered_id is None else [f"@{self.names[self._authors[answered_id]]}"]
        parts += [RARE_SENTENCE] if post_id in self._rare else []
        parts += [self._phrase(SENTENCES) for _ in range(self._random.randint(1, 2))]
        parts += [f"#{self._one_of(TOPICS)}"] if self._random.random() < TAGS else []
        parts += [f"@{self.names[self._one_of(self._people)]}"] if self._random.random() < MENTIONS else []
        body = ""
        for part in parts:
            if len(body) + len(part) <= BODY_MAXIMUM:
                body += f" {part}"
        return body[1:]


def _distinct(pairs: Iterator[Pair], count: int) -> list[Pair]:
    """Return so many pairs, each different."""
    found: dict[Pair, None] = {}
    while len(found) < count:
        found[next(pairs)] = None
    return list(found)


def _address(name: str) -> str:
    return f"{name}@example.com"
