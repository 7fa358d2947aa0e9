// Fastify with a schema for each response, @fastify/jwt, and better-sqlite3, which is called in the event
// loop. SQLite only.
//
// Run: DATABASE_URL=sqlite:////... SECRET_KEY=... PORT=... node server.js

import jwt from '@fastify/jwt'
import Database from 'better-sqlite3'
import Fastify from 'fastify'
import { entitiesIn, usernamesIn, wordsOf } from './text.js'

const { DATABASE_URL, SECRET_KEY, PORT } = process.env
const LAST_ID = Number.MAX_SAFE_INTEGER
const database = new Database(DATABASE_URL.slice('sqlite:///'.length))
database.pragma('synchronous = FULL')
database.pragma('foreign_keys = ON')

const POSTS = `
  SELECT posts.id, body, timestamp, edited_at, users.id AS user_id, username, is_reply, in_reply_to_id,
    posts.version,
    (SELECT json_group_array(json(entity)) FROM (
      SELECT json_object('start', start, 'end', "end", 'tag', tag, 'username',
        (SELECT username FROM users WHERE users.id = entities.user_id)) AS entity
      FROM entities WHERE post_id = posts.id AND url IS NULL ORDER BY start)) AS entities,
    (SELECT json_group_array(json(entity)) FROM (
      SELECT json_object('start', start, 'end', "end", 'url', url) AS entity
      FROM entities WHERE post_id = posts.id AND url IS NOT NULL ORDER BY start)) AS urls
  FROM posts JOIN users ON users.id = posts.user_id`
const PAGE = 'ORDER BY posts.id DESC LIMIT :rows'
const onePost = database.prepare(`${POSTS} WHERE posts.id = ?`)
const allPosts = database.prepare(`${POSTS} WHERE posts.id < :before ${PAGE}`)
const userPosts = database.prepare(`${POSTS} WHERE posts.id < :before AND posts.user_id = :userId ${PAGE}`)
// The unary plus keeps SQLite from using the index of user_id: it scans from the newest post.
const feed = database.prepare(`${POSTS} WHERE posts.id < :before AND (+posts.user_id = :userId
  OR +posts.user_id IN (SELECT followed_id FROM follows WHERE follower_id = :userId)) ${PAGE}`)
const idOfUser = database.prepare('SELECT id FROM users WHERE folded_username = ?').pluck()
const userIdOfSession = database.prepare(`
  SELECT users.id FROM sessions JOIN users ON users.id = sessions.user_id
  WHERE sessions.id = ? AND sessions.expires_at > ?`).pluck()
const mentioned = database.prepare(`
  SELECT folded_username, id FROM users
  WHERE folded_username IN (SELECT value FROM json_each(?))`).raw()
const insertPost = database.prepare(`
  INSERT INTO posts (body, words, timestamp, user_id, is_reply, version)
  VALUES (?, ?, ?, ?, 0, 1) RETURNING id`).pluck()
const insertEntity = database.prepare(`
  INSERT INTO entities (post_id, start, "end", tag, user_id, is_repeat)
  VALUES (:postId, :start, :end, :tag, :userId, :isRepeat)`)

const object = (properties) => ({ type: 'object', properties })
const array = (items) => ({ type: 'array', items })
const [integer, string] = [{ type: 'integer' }, { type: 'string' }]
const nullable = ({ type }) => ({ type: [type, 'null'] })
const post = object({
  id: integer,
  body: string,
  timestamp: string,
  edited_at: nullable(string),
  author: object({ id: integer, username: string }),
  is_reply: { type: 'boolean' },
  in_reply_to_id: nullable(integer),
  entities: array(object({ start: integer, end: integer, tag: nullable(string), username: nullable(string) })),
  urls: array(object({ start: integer, end: integer, url: string })),
  etag: string,
  counts: { type: 'null' },
  viewer: { type: 'null' }
})
const page = object({ items: array(post), next_cursor: nullable(string), prev_cursor: nullable(string) })
const pageQuery = object({
  limit: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
  cursor: { type: 'string' }
})
const postBody = { ...object({ body: { type: 'string', minLength: 1, maxLength: 140 } }), required: ['body'] }

const now = () => `${new Date().toISOString().slice(0, 23).replace('T', ' ')}000`
const timeOf = (text) => text && `${text.slice(0, 10)}T${text.slice(11, 23)}Z`
const cursorOf = (id) => Buffer.from(String(id)).toString('base64url')
const problem = (statusCode) => Object.assign(new Error(), { statusCode })

const postOf = (row) => ({
  id: row.id,
  body: row.body,
  timestamp: timeOf(row.timestamp),
  edited_at: timeOf(row.edited_at),
  author: { id: row.user_id, username: row.username },
  is_reply: row.is_reply === 1,
  in_reply_to_id: row.in_reply_to_id,
  entities: JSON.parse(row.entities),
  urls: JSON.parse(row.urls),
  etag: String(row.version),
  counts: null,
  viewer: null
})
const readPage = (statement, { limit, cursor }, values = {}) => {
  const before = cursor === undefined ? LAST_ID : Number(Buffer.from(cursor, 'base64url').toString())
  if (!Number.isInteger(before)) throw problem(400)
  const rows = statement.all({ before, rows: limit + 1, ...values })
  return {
    items: rows.slice(0, limit).map(postOf),
    next_cursor: rows.length > limit ? cursorOf(rows[limit - 1].id) : null,
    prev_cursor: rows.length ? cursorOf(rows[0].id) : null
  }
}
const publish = database.transaction((userId, body) => {
  const postId = insertPost.get(body, wordsOf(body).join(' '), now(), userId)
  const names = usernamesIn(body)
  const userIds = new Map(names.length ? mentioned.all(JSON.stringify(names)) : [])
  for (const entity of entitiesIn(body, userIds)) insertEntity.run({ postId, ...entity })
  return onePost.get(postId)
})

const app = Fastify()
app.register(jwt, { secret: SECRET_KEY, verify: { algorithms: ['HS256'] } })
app.decorateRequest('userId', null)

const tokenRequired = async (request) => {
  await request.jwtVerify()
  request.userId = userIdOfSession.get(request.user.sub, now())
  if (request.userId === undefined) throw problem(401)
}
const tokenOptional = async (request) => {
  if (request.headers.authorization) await tokenRequired(request)
}

const pages = { querystring: pageQuery, response: { 200: page } }
app.get('/api/v1/posts', { schema: pages, onRequest: tokenOptional }, async ({ query }) => (
  readPage(allPosts, query)
))
app.post('/api/v1/posts', {
  schema: { body: postBody, response: { 201: post } },
  onRequest: tokenRequired
}, async (request, reply) => {
  reply.code(201)
  return postOf(publish.immediate(request.userId, request.body.body))
})
app.get('/api/v1/posts/:id', {
  schema: { params: object({ id: integer }), response: { 200: post } }
}, async ({ params }) => {
  const row = onePost.get(params.id)
  if (row === undefined) throw problem(404)
  return postOf(row)
})
app.get('/api/v1/users/:username/posts', { schema: pages }, async ({ params, query }) => {
  const userId = idOfUser.get(params.username.toLowerCase())
  if (userId === undefined) throw problem(404)
  return readPage(userPosts, query, { userId })
})
app.get('/api/v1/feed', { schema: pages, onRequest: tokenRequired }, async ({ query, userId }) => (
  readPage(feed, query, { userId })
))

await app.listen({ host: '127.0.0.1', port: Number(PORT) })
