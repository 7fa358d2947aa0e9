// Shared by both journeys in TypeScript.

export const baseUrl = process.argv[2] ?? "http://127.0.0.1:8000/api/v1";

/** Throw an error unless a condition holds. */
export function check(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Tell the runner that a step is done. */
export function done(step: string): void {
  console.log(`- ${step}`);
}

interface Page {
  items: { id: number }[];
  next_cursor: string | null;
  prev_cursor: string | null;
}

/** Read a list of five posts in pages of two, to its end and back. `read` requests a page. */
export async function checkPages(read: (query: { limit: number; cursor?: string }) => Promise<{ data?: Page }>) {
  async function walk(direction: "next_cursor" | "prev_cursor", cursor?: string) {
    const ids: number[][] = [];
    for (;;) {
      const { data: page } = await read(cursor === undefined ? { limit: 2 } : { limit: 2, cursor });
      check(page, "a page");
      if (page.items.length) ids.push(page.items.map((item) => item.id));
      const following = page[direction];
      if (!page.items.length || following === null) return { ids, prev: page.prev_cursor };
      cursor = following;
    }
  }
  const forwards = await walk("next_cursor");
  check(forwards.ids.map((page) => page.length).join() === "2,2,1", "pages of two");
  check(forwards.prev !== null, "a page before the last");
  const backwards = await walk("prev_cursor", forwards.prev);
  check(backwards.ids.reverse().flat().join() === forwards.ids.flat().slice(0, 4).join(), "the same posts backwards");
}
