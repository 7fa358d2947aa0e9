// The journey with openapi-generator's client for Go.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"

	"example.com/journey/microblog"
)

func main() {
	url := "http://127.0.0.1:8000/api/v1"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}

	configuration := microblog.NewConfiguration()
	configuration.Servers = microblog.ServerConfigurations{{URL: url}}
	client := microblog.NewAPIClient(configuration)
	anonymous := context.Background()

	register(client, "ann", "9 green horses")
	register(client, "bob", "7 blue bicycles")
	fmt.Println("- register")

	basic := microblog.BasicAuth{UserName: "ann", Password: "9 green horses"}
	asAnn := context.WithValue(anonymous, microblog.ContextBasicAuth, basic)
	tokens, _, err := client.TokensAPI.CreateToken(asAnn).Execute()
	if err != nil {
		log.Fatal(err)
	}
	ann := context.WithValue(anonymous, microblog.ContextAccessToken, tokens.AccessToken)
	input := microblog.PostCreate{Body: "The first snowdrops are out."}
	post, _, err := client.PostsAPI.CreatePost(ann).PostCreate(input).Execute()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s published post %d.\n", post.Author.Username, post.Id)

	fmt.Println("- sign in")
	check(!post.Timestamp.IsZero() && post.Viewer.Get() == nil, "published")
	fmt.Println("- publish")
	for _, members := range []map[string]interface{}{
		post.AdditionalProperties, post.Author.AdditionalProperties, tokens.AdditionalProperties,
	} {
		check(members["added_later"] != nil, "members added")
	}
	fmt.Println("- unknown members")

	for number := 2; number <= 5; number++ {
		input := microblog.PostCreate{Body: fmt.Sprint("Post ", number)}
		must(client.PostsAPI.CreatePost(ann).PostCreate(input).Execute())
	}
	forwards, prev := walk(client, nil, func(page *microblog.PostPage) *string { return page.NextCursor.Get() })
	check(len(forwards) == 3 && len(forwards[2]) == 1 && prev != nil, "pages of two")
	backwards, _ := walk(client, prev, func(page *microblog.PostPage) *string { return page.PrevCursor.Get() })
	check(len(backwards) == 2, "two pages backwards")
	check(reflect.DeepEqual([][]int64{backwards[1], backwards[0]}, forwards[:2]), "the same posts backwards")
	fmt.Println("- pages")

	etag := fmt.Sprintf("%q", post.Etag)
	update := microblog.PostUpdate{}
	update.SetBody("Edited.")
	edited := must(client.PostsAPI.UpdatePost(ann, post.Id).PostUpdate(update).IfMatch(etag).Execute())
	check(edited.EditedAt.Get() != nil, "edited")
	update.SetBody("Edited again.")
	_, response, err := client.PostsAPI.UpdatePost(ann, post.Id).PostUpdate(update).IfMatch(etag).Execute()
	stale := problem(err)
	check(response.StatusCode == 412 && stale.Code == "precondition_failed", "412")
	check(stale.GetEtag() == edited.Etag, "the current tag")
	fmt.Println("- If-Match")

	basic = microblog.BasicAuth{UserName: "bob", Password: "7 blue bicycles"}
	asBob := context.WithValue(anonymous, microblog.ContextBasicAuth, basic)
	bobs := must(client.TokensAPI.CreateToken(asBob).Execute())
	bob := context.WithValue(anonymous, microblog.ContextAccessToken, bobs.AccessToken)
	response, err = client.LikesAPI.CreateLike(bob, post.Id).Execute()
	check(err == nil && response.StatusCode == 204, "liked")
	fmt.Println("- like")
	response, err = client.FollowsAPI.CreateFollowing(bob, "ann").Execute()
	check(err == nil && response.StatusCode == 204, "followed")
	fmt.Println("- follow")

	parts := microblog.AllowedExpandCountsAndViewerPartEnumValues
	feed := must(client.FollowsAPI.ListFeed(bob).Expand(parts).Execute())
	found := false
	for _, item := range feed.Items {
		found = found || item.Id == post.Id && item.Viewer.Get().Liked
	}
	check(found, "viewer in the feed")
	seen := must(client.PostsAPI.GetPost(bob, post.Id).Expand(parts).Execute())
	check(seen.Viewer.Get().Liked && seen.Counts.Get().LikeCount == 1, "viewer where a token is optional")
	fmt.Println("- viewer")

	refresh := microblog.TokenRefresh{RefreshToken: bobs.RefreshToken}
	renewed := must(client.TokensAPI.RefreshToken(anonymous).TokenRefresh(refresh).Execute())
	check(*renewed.RefreshToken.Get() != *bobs.RefreshToken.Get(), "refreshed")
	again := context.WithValue(anonymous, microblog.ContextAccessToken, renewed.AccessToken)
	check(must(client.UsersAPI.GetAccount(again).Execute()).Username == "bob", "the new token")
	fmt.Println("- refresh")

	user := microblog.UserCreate{Username: "ann", Email: "other@example.com", Password: "9 green horses"}
	_, response, err = client.UsersAPI.CreateUser(anonymous).UserCreate(user).Execute()
	taken := problem(err)
	check(response.StatusCode == 409 && taken.Code == "already_taken", "409")
	check(taken.Errors[0].GetPointer() == "/username", "where")
	fmt.Println("- conflict")
	input.Body = " "
	_, response, err = client.PostsAPI.CreatePost(ann).PostCreate(input).Execute()
	blank := problem(err)
	check(response.StatusCode == 422 && blank.Code == "invalid_input", "422")
	check(blank.Errors[0].GetPointer() == "/body" && blank.Errors[0].Code == "blank", "where and why")
	fmt.Println("- invalid input")
}

func register(client *microblog.APIClient, username, password string) {
	user := microblog.UserCreate{Username: username, Email: username + "@example.com", Password: password}
	account := must(client.UsersAPI.CreateUser(context.Background()).UserCreate(user).Execute())
	check(account.Email == user.Email, "registered")
}

// walk returns the ids of the posts from a page on, in one direction, and the last page's cursor backwards.
func walk(
	client *microblog.APIClient, cursor *string, following func(*microblog.PostPage) *string,
) (ids [][]int64, prev *string) {
	for {
		request := client.PostsAPI.ListPosts(context.Background()).Limit(2)
		if cursor != nil {
			request = request.Cursor(*cursor)
		}
		page := must(request.Execute())
		if len(page.Items) > 0 {
			var found []int64
			for _, post := range page.Items {
				found = append(found, post.Id)
			}
			ids = append(ids, found)
		}
		cursor = following(page)
		if len(page.Items) == 0 || cursor == nil {
			return ids, page.PrevCursor.Get()
		}
	}
}

// problem returns the problem document of a response.
func problem(err error) microblog.Problem {
	var failure *microblog.GenericOpenAPIError
	check(errors.As(err, &failure), "an error")
	return failure.Model().(microblog.Problem)
}

// must returns what an operation responds, and ends the program if it fails.
func must[Value, Response any](value Value, _ Response, err error) Value {
	if err != nil {
		log.Panic(err)
	}
	return value
}

func check(condition bool, message string) {
	if !condition {
		log.Panic(message)
	}
}
