"""The users and posts of `make demo`."""

import unicodedata
from datetime import timedelta

from sqlalchemy import func, select

from api.auth.authentication import passwords
from api.db import db, utc_now
from api.models import Follow, Like, User
from api.posts.writing import insert_post

DEMO_USER, DEMO_PASSWORD = "ann", "9 green horses"

USERS = {
    "ann": "Botanist. Rain or shine.",
    "tomas": "Repairs bicycles in the old fire station.",
    "mei": "Night trains, maps and dumplings.",
    "okoro": "Teaches physics. Builds kites.",
    "lucia": "Baker. Up at three so that you need not be.",
    "henrik": "Keeps bees, and minutes of meetings.",
    "priya": "Software by day, choir by night.",
    "sami": "Photographs harbours.",
}
# The users that each user follows.
FOLLOWS = {
    "ann": "tomas mei okoro lucia priya sami",
    "tomas": "ann lucia henrik",
    "mei": "ann sami priya tomas lucia",
    "okoro": "ann priya mei",
    "lucia": "ann tomas henrik mei",
    "henrik": "ann lucia",
    "priya": "ann okoro mei sami",
    "sami": "ann mei lucia",
}
# Minutes before now, author, text and, of a reply, the number of the post that it answers, counted from 0.
POSTS: list[tuple[int, str, str, int | None]] = [
    (9_740, "henrik", "First warm day. Eleven hives out of twelve made it through the winter. #bees", None),
    (
        9_690,
        "lucia",
        "@henrik Eleven out of twelve is wonderful. There is a loaf here with your name on it.",
        0,
    ),
    (9_120, "okoro", "The class built a kite out of a shower curtain. It flew better than mine.", None),
    (9_080, "priya", "@okoro Photo or it did not happen!", 2),
    (8_700, "sami", "Fog until noon, then the whole harbour at once. #harbour", None),
    (8_010, "tomas", "A customer brought in a 1962 Rih. Original saddle, original rust. #bicycle", None),
    (7_960, "mei", "@tomas Keep the rust, it is load-bearing.", 5),
    (7_400, "mei", "Sleeper to Vienna: the dining car has tablecloths again. #nighttrain", None),
    (7_350, "ann", "@mei And? The dumplings?", 7),
    (7_330, "mei", "@ann Seven out of ten. The view made up for the other three.", 8),
    (6_600, "lucia", "Rye, day four of the new starter. It smells of apples now. #bread", None),
    (
        6_050,
        "priya",
        "Concert on Saturday, the doors open at seven. https://choir.example/spring #choir",
        None,
    ),
    (5_990, "okoro", "@priya The whole physics department is coming. You have been warned.", 11),
    (5_300, "ann", "Found a lady's slipper orchid 🌱 where the map has nothing but spruce. #botany", None),
    (5_270, "sami", "@ann May I come with the big camera?", 13),
    (5_255, "ann", "🌱🌱 @sami If the big camera can walk nine kilometres.", 14),
    (
        4_800,
        "tomas",
        "Free bicycle check on Thursday, in front of the library. Bring the squeaky ones.",
        None,
    ),
    (
        4_420,
        "henrik",
        "Minutes of the garden meeting: we agree on the fence. We do not agree on its colour.",
        None,
    ),
    (4_380, "lucia", "@henrik Blue. Put that into the minutes.", 17),
    (3_900, "sami", "The ferry was late, so the gulls had the pier to themselves. #harbour", None),
    (3_310, "mei", "今日の夜行列車は満月と一緒。 #nighttrain", None),
    (2_950, "priya", "Two altos, one cold. We are now singing a piece for three and a half voices.", None),
    (2_870, "okoro", "Question for a test: why does a kite with a tail fly better than one without?", None),
    (2_820, "ann", "@okoro Because it wants to be a plant.", 22),
    (2_790, "okoro", "@ann Half a point.", 23),
    (2_200, "lucia", "Brötchen, Zopf und ein Versuch mit Quark. Ab sechs Uhr. #bread", None),
    (1_700, "tomas", "That Rih is done. Four weeks, and it sounds like a sewing machine. #bicycle", None),
    (1_660, "sami", "@tomas I need a picture of it by the water.", 26),
    (1_390, "henrik", "A swarm in the pear tree. Meeting adjourned. #bees", None),
    (1_350, "ann", "@henrik Which pear tree? Asking for a thermos and a folding chair.", 28),
    (980, "mei", "Drew the line to Trieste by hand, because the printed map stops at the border.", None),
    (
        610,
        "priya",
        "Sold out! Thank you. There are two more evenings: https://choir.example/spring #choir",
        None,
    ),
    (470, "okoro", "Wind at six, clear sky, red kite number four is ready.", None),
    (190, "sami", "Blue hour, no wind, and a trumpet being practised on a barge. #harbour", None),
    (150, "mei", "@sami Best sentence of the week.", 33),
    (95, "lucia", "The apple starter won. The first rye loaves are on the shelf, still warm. #bread", None),
    (
        62,
        "tomas",
        "Is the road along the river open again after the flood? @ann you were there yesterday?",
        None,
    ),
    (48, "ann", "@tomas Open as far as the weir. After that you carry the bicycle.", 36),
    (21, "priya", "Does anyone have a music stand that does not fold at the best moment?", None),
    (12, "ann", "The first snowdrops are out, behind the old greenhouse. #botany #spring", None),
    (4, "okoro", "@ann Snowdrops in November? Show them a calendar, please.", 39),
]


def insert_demo_data() -> None:
    """Insert the users, posts, follows and likes in one transaction, unless there are users."""
    if db.session.scalars(select(func.count(User.id))).one():
        return
    now = utc_now()
    password_hash = passwords().hash(unicodedata.normalize("NFC", DEMO_PASSWORD))
    ids: dict[str, int] = {}
    for number, (username, about) in enumerate(USERS.items()):
        user = User(
            username=username,
            email=f"{username}@example.com",
            about=about,
            password_hash=password_hash,
            created_at=now - timedelta(days=40 - number),
        )
        db.session.add(user)
        db.session.flush()
        ids[username] = user.id
    for follower, followed in FOLLOWS.items():
        rows = [Follow(follower_id=ids[follower], followed_id=ids[each]) for each in followed.split()]
        db.session.add_all(rows)
    post_ids: list[int] = []
    for minutes, author, body, parent in POSTS:
        parent_id = None if parent is None else post_ids[parent]
        timestamp = now - timedelta(minutes=minutes)
        post_ids.append(insert_post(ids[author], body, timestamp=timestamp, in_reply_to_id=parent_id))
    for number, post_id in enumerate(post_ids):
        # Some followers like each post: which ones, and how many, varies with its number.
        author = POSTS[number][1]
        fans = [name for name, followed in FOLLOWS.items() if author in followed.split()]
        chosen = [name for place, name in enumerate(fans) if (number * 7 + place * 5) % 3 == 1]
        db.session.add_all(Like(user_id=ids[name], post_id=post_id) for name in chosen)
    db.session.commit()
