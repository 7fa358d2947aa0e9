#!/bin/sh
# The main operations of the API. It needs curl 7.76 or later, grep and sed, and prints each response.
#
#     examples/walk.sh [URL of the API]
set -eu

API=${1:-http://127.0.0.1:8000/api/v1}
NAME=walker$(date +%s)
PASSWORD='9 green horses'
JSON='Content-Type: application/json'

# Send a request; print the response, and keep it in $response. An error status ends the script.
call() {
    response=$(curl --silent --show-error --fail-with-body "$@") || { echo "$response" >&2; exit 1; }
    [ -z "$response" ] || echo "$response"
}

# Print the first member of $response with a name. With jq it is: jq -r .name
member() {
    echo "$response" | grep -o "\"$1\":[^,}]*" | head -n 1 | sed 's/^[^:]*://; s/"//g'
}

echo '# Register'
call "$API/users" -H "$JSON" \
    -d "{\"username\": \"$NAME\", \"email\": \"$NAME@example.com\", \"password\": \"$PASSWORD\"}"

echo '# Sign in: the access token is valid for 15 minutes'
call "$API/tokens" -X POST -u "$NAME:$PASSWORD"
AUTH="Authorization: Bearer $(member access_token)"

echo '# Publish: with an Idempotency-Key, a retry after a lost response does not publish a second post'
call "$API/posts" -H "$AUTH" -H "$JSON" -H "Idempotency-Key: \"$NAME-1\"" -d '{"body": "On my way. #walk"}'
call "$API/posts" -H "$AUTH" -H "$JSON" -H "Idempotency-Key: \"$NAME-2\"" -d '{"body": "Half way. #walk"}'
POST=$(member id)
ETAG=$(member etag)

echo '# List your posts, newest first: the first page, then the next one'
call "$API/users/$NAME/posts?limit=1"
call "$API/users/$NAME/posts?limit=1&cursor=$(member next_cursor)"

echo '# Edit: If-Match names the version that was read; if the post has changed since, the response is 412'
call "$API/posts/$POST" -X PATCH -H "$AUTH" -H "$JSON" -H "If-Match: \"$ETAG\"" -d '{"body": "There. #walk"}'

echo '# Like the post, and read it with its counts'
call "$API/me/likes/$POST" -X PUT -H "$AUTH"
call "$API/posts/$POST?expand=counts,viewer" -H "$AUTH"

echo '# Sign out'
call "$API/tokens/current" -X DELETE -H "$AUTH"
