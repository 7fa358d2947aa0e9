// Words, hashtags and mentions in the text of a post. The rules are simpler than those of the service, and
// there are no URLs; the text that the benchmark publishes gives the same.

const WORD = /\p{L}[\p{L}\p{M}\p{N}]*|\p{N}+/gu
const HASHTAG = /(?<![\p{L}\p{N}_#@&/])#([\p{L}\p{M}\p{N}_]*\p{L}[\p{L}\p{M}\p{N}_]*)/gu
const MENTION = /(?<![\p{L}\p{N}_#@&/])@([A-Za-z][A-Za-z0-9_.-]{2,63})(?![\p{L}\p{M}\p{N}_@])/gu

const fold = (text) => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().normalize('NFKC')

export const wordsOf = (text) => fold(text).match(WORD) ?? []

// A possible username, then shorter ones without the punctuation at its end.
const candidates = (text) => {
  const names = [text.toLowerCase()]
  while (names.at(-1).length > 3 && '_.-'.includes(names.at(-1).at(-1))) names.push(names.at(-1).slice(0, -1))
  return names
}

export const usernamesIn = (text) => [...text.matchAll(MENTION)].flatMap((found) => candidates(found[1]))

// `userIds` has the ids of existing users by their usernames. Positions count code points.
export const entitiesIn = (text, userIds) => {
  const position = (index) => [...text.slice(0, index)].length
  const found = [...text.matchAll(HASHTAG)].map(({ index, 0: { length }, 1: tag }) => (
    { start: position(index), end: position(index + length), tag: fold(tag), userId: null }
  ))
  for (const { index, 1: mention } of text.matchAll(MENTION)) {
    const username = candidates(mention).find((name) => userIds.has(name))
    if (username === undefined) continue
    const start = position(index)
    found.push({ start, end: start + 1 + username.length, tag: null, userId: userIds.get(username) })
  }
  const seen = new Set()
  return found.sort((one, other) => one.start - other.start).map((entity) => {
    const target = entity.tag ?? entity.userId
    const isRepeat = seen.has(target)
    seen.add(target)
    return { ...entity, isRepeat: Number(isRepeat) }
  })
}
