// The journey with openapi-generator's client for Java.

import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.function.Function;
import microblog.ApiClient;
import microblog.ApiException;
import microblog.api.FollowsApi;
import microblog.api.LikesApi;
import microblog.api.PostsApi;
import microblog.api.TokensApi;
import microblog.api.UsersApi;
import microblog.model.ExpandCountsAndViewerPart;
import microblog.model.Post;
import microblog.model.PostCreate;
import microblog.model.PostPage;
import microblog.model.PostUpdate;
import microblog.model.Problem;
import microblog.model.TokenPair;
import microblog.model.TokenRefresh;
import microblog.model.UserCreate;

public class Journey {
  static String url = "http://127.0.0.1:8000/api/v1";

  static ApiClient client(String authorization) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(url);
    if (authorization != null) {
      client.setRequestInterceptor(request -> request.header("Authorization", authorization));
    }
    return client;
  }

  static TokenPair signIn(String username, String password) throws ApiException {
    String basic = Base64.getEncoder().encodeToString((username + ":" + password).getBytes());
    return new TokensApi(client("Basic " + basic)).createToken(null);
  }

  public static void main(String[] arguments) throws Exception {
    url = arguments.length > 0 ? arguments[0] : url;

    UsersApi users = new UsersApi(client(null));
    UserCreate user = new UserCreate().username("ann").email("ann@example.com").password("9 green horses");
    check(users.createUser(user, null, null).getEmail().equals(user.getEmail()), "registered");
    UserCreate other = new UserCreate().username("bob").email("bob@example.com").password("7 blue bicycles");
    users.createUser(other, null, null);
    done("register");

    TokenPair tokens = signIn("ann", "9 green horses");
    PostsApi ann = new PostsApi(client("Bearer " + tokens.getAccessToken()));
    Post post = ann.createPost(new PostCreate().body("The first snowdrops are out."), null, null);
    System.out.printf("%s published post %d.%n", post.getAuthor().getUsername(), post.getId());

    done("sign in");
    check(post.getTimestamp().isAfter(OffsetDateTime.MIN) && post.getViewer() == null, "published");
    done("publish");
    check(post.getAdditionalProperty("added_later") != null, "a member of the post");
    check(post.getAuthor().getAdditionalProperty("added_later") != null, "a member of the author");
    check(tokens.getAdditionalProperty("added_later") != null, "a member of the tokens");
    done("unknown members");

    for (int number = 2; number <= 5; number++) {
      ann.createPost(new PostCreate().body("Post " + number), null, null);
    }
    List<List<Long>> forwards = new ArrayList<>();
    String prev = walk(forwards, null, PostPage::getNextCursor);
    check(forwards.size() == 3 && forwards.get(2).size() == 1 && prev != null, "pages of two");
    List<List<Long>> backwards = new ArrayList<>();
    walk(backwards, prev, PostPage::getPrevCursor);
    check(List.of(backwards.get(1), backwards.get(0)).equals(forwards.subList(0, 2)), "the same posts backwards");
    done("pages");

    String etag = '"' + post.getEtag() + '"';
    Post edited = ann.updatePost(post.getId(), new PostUpdate().body("Edited."), null, etag);
    check(edited.getEditedAt() != null, "edited");
    Problem stale = problem(412, () -> ann.updatePost(post.getId(), new PostUpdate().body("Again."), null, etag));
    check(stale.getCode().equals("precondition_failed"), "412");
    check(stale.getEtag().equals(edited.getEtag()), "the current tag");
    done("If-Match");

    TokenPair bobs = signIn("bob", "7 blue bicycles");
    ApiClient bob = client("Bearer " + bobs.getAccessToken());
    check(new LikesApi(bob).createLikeWithHttpInfo(post.getId()).getStatusCode() == 204, "liked");
    done("like");
    check(new FollowsApi(bob).createFollowingWithHttpInfo("ann").getStatusCode() == 204, "followed");
    done("follow");

    List<ExpandCountsAndViewerPart> parts = List.of(ExpandCountsAndViewerPart.values());
    PostPage feed = new FollowsApi(bob).listFeed(null, null, parts, null);
    check(
        feed.getItems().stream().anyMatch(item -> item.getId().equals(post.getId()) && item.getViewer().getLiked()),
        "viewer in the feed");
    Post seen = new PostsApi(bob).getPost(post.getId(), parts, null);
    check(seen.getViewer().getLiked() && seen.getCounts().getLikeCount() == 1, "viewer where a token is optional");
    done("viewer");

    TokenRefresh refresh = new TokenRefresh().refreshToken(bobs.getRefreshToken());
    TokenPair renewed = new TokensApi(client(null)).refreshToken(refresh);
    check(!renewed.getRefreshToken().equals(bobs.getRefreshToken()), "refreshed");
    UsersApi again = new UsersApi(client("Bearer " + renewed.getAccessToken()));
    check(again.getAccount(null, null).getUsername().equals("bob"), "the new token");
    done("refresh");

    Problem taken = problem(409, () -> users.createUser(user.email("other@example.com"), null, null));
    check(taken.getCode().equals("already_taken"), "409");
    check(taken.getErrors().get(0).getPointer().equals("/username"), "where");
    done("conflict");
    Problem blank = problem(422, () -> ann.createPost(new PostCreate().body(" "), null, null));
    check(blank.getCode().equals("invalid_input"), "422");
    check(blank.getErrors().get(0).getPointer().equals("/body"), "where");
    check(blank.getErrors().get(0).getCode().equals("blank"), "why");
    done("invalid input");
  }

  /** Add the ids of the posts from a page on, in one direction; return the last page's cursor backwards. */
  static String walk(List<List<Long>> ids, String cursor, Function<PostPage, String> following)
      throws ApiException {
    PostsApi posts = new PostsApi(client(null));
    while (true) {
      PostPage page = posts.listPosts(2, cursor, null, null, null, null, null, null);
      if (!page.getItems().isEmpty()) {
        ids.add(page.getItems().stream().map(Post::getId).toList());
      }
      cursor = following.apply(page);
      if (page.getItems().isEmpty() || cursor == null) {
        return page.getPrevCursor();
      }
    }
  }

  interface Request {
    void send() throws ApiException;
  }

  /** Return the problem document of a request that fails with a status. */
  static Problem problem(int status, Request request) throws Exception {
    try {
      request.send();
    } catch (ApiException error) {
      check(error.getCode() == status, "status " + error.getCode());
      return new ApiClient().getObjectMapper().readValue(error.getResponseBody(), Problem.class);
    }
    throw new AssertionError("no error " + status);
  }

  static void check(boolean condition, String message) {
    if (!condition) {
      throw new AssertionError(message);
    }
  }

  /** Tell the runner that a step is done. */
  static void done(String step) {
    System.out.println("- " + step);
  }
}
