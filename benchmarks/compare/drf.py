"""Django REST framework in the style of its documentation, on gunicorn with threads. SQLite only.

https://www.django-rest-framework.org/: generic views, model serializers, a custom pagination style and a
custom authentication, in one file. Relations are loaded with select_related and prefetch_related, as the
documentation advises. Tokens: PyJWT, then one statement for session and user.

Run: gunicorn --worker-class gthread --threads 8 benchmarks.compare.drf:application
"""

from datetime import UTC, datetime

import django
import jwt
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import models, transaction
from django.db.models import Q

from benchmarks.compare.common import (
    SECRET_KEY,
    SQLITE_FILE,
    cursor_of,
    entities_of,
    id_of,
    mentioned_usernames,
    words_column,
)

settings.configure(
    SECRET_KEY=SECRET_KEY,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": SQLITE_FILE,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous = FULL"},
        }
    },
    # The middleware of `django-admin startproject`, except that for pages: sessions, messages and CSRF.
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

# Django must be set up before these can be imported.
from django.urls import path  # noqa: E402
from rest_framework import authentication, exceptions, generics, pagination, permissions, serializers  # noqa: E402
from rest_framework.response import Response  # noqa: E402


class User(models.Model):
    username = models.CharField(max_length=64)
    folded_username = models.CharField(max_length=64)

    is_authenticated = True

    class Meta:
        app_label = "microblog"
        db_table = "users"
        managed = False


class Session(models.Model):
    user = models.ForeignKey(User, models.CASCADE)
    expires_at = models.DateTimeField()

    class Meta:
        app_label = "microblog"
        db_table = "sessions"
        managed = False


class Follow(models.Model):
    follower = models.ForeignKey(User, models.CASCADE, related_name="+")
    followed = models.ForeignKey(User, models.CASCADE, related_name="+")

    class Meta:
        app_label = "microblog"
        db_table = "follows"
        managed = False


class Post(models.Model):
    body = models.CharField(max_length=140)
    words = models.TextField()
    timestamp = models.DateTimeField()
    edited_at = models.DateTimeField(null=True)
    user = models.ForeignKey(User, models.CASCADE)
    is_reply = models.BooleanField(default=False)
    in_reply_to = models.ForeignKey("self", models.SET_NULL, null=True)
    version = models.IntegerField(default=1)

    @property
    def entities(self):
        return [entity for entity in self.all_entities.all() if entity.url is None]

    @property
    def urls(self):
        return [entity for entity in self.all_entities.all() if entity.url is not None]

    class Meta:
        app_label = "microblog"
        db_table = "posts"
        managed = False


class Entity(models.Model):
    pk = models.CompositePrimaryKey("post_id", "start")
    post = models.ForeignKey(Post, models.CASCADE, related_name="all_entities")
    start = models.IntegerField()
    end = models.IntegerField()
    tag = models.CharField(max_length=140, null=True)
    user = models.ForeignKey(User, models.CASCADE, null=True)
    url = models.CharField(max_length=2_048, null=True)
    is_repeat = models.BooleanField()

    class Meta:
        app_label = "microblog"
        db_table = "entities"
        managed = False
        ordering = ["start"]


class TokenAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request):
        keyword, _, token = request.headers.get("Authorization", "").partition(" ")
        if keyword != "Bearer":
            return None
        try:
            session_id = jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["sub"]
            current = Session.objects.select_related("user").filter(expires_at__gt=datetime.now(UTC))
            session = current.get(pk=session_id)
        except (jwt.InvalidTokenError, Session.DoesNotExist):
            raise exceptions.AuthenticationFailed from None
        return session.user, session

    def authenticate_header(self, _request):
        return "Bearer"


class Cursors(pagination.BasePagination):
    def paginate_queryset(self, queryset, request, view=None):
        limit = serializers.IntegerField(min_value=1, max_value=100)
        limit = limit.run_validation(request.query_params.get("limit", 20))
        if cursor := request.query_params.get("cursor"):
            try:
                queryset = queryset.filter(id__lt=id_of(cursor))
            except ValueError:
                raise exceptions.ParseError from None
        posts = list(queryset.order_by("-id")[: limit + 1])
        page = posts[:limit]
        self.next_cursor = cursor_of(page[-1].id) if len(posts) > limit else None
        self.prev_cursor = cursor_of(page[0].id) if page else None
        return page

    def get_paginated_response(self, data):
        cursors = {"next_cursor": self.next_cursor, "prev_cursor": self.prev_cursor}
        return Response({"items": data, **cursors})


class UTCDateTimeField(serializers.DateTimeField):
    def to_representation(self, value):
        return f"{value.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


class AuthorSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["id", "username"]


class EntitySerializer(serializers.ModelSerializer):
    username = serializers.CharField(source="user.username", default=None)

    class Meta:
        model = Entity
        fields = ["start", "end", "tag", "username"]


class URLSerializer(serializers.ModelSerializer):
    class Meta:
        model = Entity
        fields = ["start", "end", "url"]


class PostSerializer(serializers.ModelSerializer):
    timestamp = UTCDateTimeField(read_only=True)
    edited_at = UTCDateTimeField(read_only=True)
    author = AuthorSerializer(source="user", read_only=True)
    in_reply_to_id = serializers.IntegerField(read_only=True)
    entities = EntitySerializer(many=True, read_only=True)
    urls = URLSerializer(many=True, read_only=True)
    etag = serializers.CharField(source="version", read_only=True)
    counts = serializers.ReadOnlyField(default=None)
    viewer = serializers.ReadOnlyField(default=None)

    class Meta:
        model = Post
        fields = ["id", "body", "timestamp", "edited_at", "author", "is_reply", "in_reply_to_id", "entities"]
        fields += ["urls", "etag", "counts", "viewer"]
        read_only_fields = ["is_reply"]

    @transaction.atomic
    def create(self, validated_data):
        body = validated_data["body"]
        post = Post.objects.create(words=words_column(body), timestamp=datetime.now(UTC), **validated_data)
        mentioned = User.objects.filter(folded_username__in=mentioned_usernames(body))
        entities = entities_of(body, dict(mentioned.values_list("folded_username", "id")))
        Entity.objects.bulk_create(Entity(post=post, **entity) for entity in entities)
        return post


posts = Post.objects.select_related("user").prefetch_related("all_entities__user")


class PostList(generics.ListCreateAPIView):
    queryset = posts
    serializer_class = PostSerializer
    pagination_class = Cursors
    authentication_classes = [TokenAuthentication]
    permission_classes = [permissions.IsAuthenticatedOrReadOnly]

    def perform_create(self, serializer):
        serializer.save(user=self.request.user)


class PostDetail(generics.RetrieveAPIView):
    queryset = posts
    serializer_class = PostSerializer


class UserPostList(generics.ListAPIView):
    serializer_class = PostSerializer
    pagination_class = Cursors

    def get_queryset(self):
        user = generics.get_object_or_404(User, folded_username=self.kwargs["username"].lower())
        return posts.filter(user=user)


class Feed(generics.ListAPIView):
    serializer_class = PostSerializer
    pagination_class = Cursors
    authentication_classes = [TokenAuthentication]
    permission_classes = [permissions.IsAuthenticated]

    def get_queryset(self):
        followed = Follow.objects.filter(follower=self.request.user).values("followed")
        return posts.filter(Q(user=self.request.user) | Q(user__in=followed))


urlpatterns = [
    path("api/v1/posts", PostList.as_view()),
    path("api/v1/posts/<int:pk>", PostDetail.as_view()),
    path("api/v1/users/<str:username>/posts", UserPostList.as_view()),
    path("api/v1/feed", Feed.as_view()),
]
application = get_wsgi_application()
