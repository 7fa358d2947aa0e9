// The service in processes of its own, behind a proxy that loses or replaces responses.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { type AddressInfo, createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env["PYTHON"] ?? join(ROOT, ".venv/bin/python");

/** Start the service, with access tokens that expire after three seconds, and four writes a second. */
export async function startService() {
  const probe = createSocket().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const port = (probe.address() as AddressInfo).port;
  await new Promise((resolve) => probe.close(resolve));
  const folder = mkdtempSync(join(tmpdir(), "microblog-client-"));
  const many = "1000000/second";
  const env = {
    ...process.env,
    DATABASE_URL: `sqlite:///${folder}/microblog.db`, PORT: String(port),
    ACCESS_TOKEN_SECONDS: "3", PASSWORD_HASH_MEMORY: "8", PASSWORD_HASH_TIME: "1", RATE_LIMIT_READS: many,
    RATE_LIMIT_WRITES: "4/second", RATE_LIMIT_SIGN_IN: many, RATE_LIMIT_REGISTRATION: many,
  };
  execFileSync(PYTHON, ["-m", "flask", "db", "upgrade"], { cwd: ROOT, env, stdio: "ignore" });
  const child = spawn(PYTHON, ["-m", "flask", "serve"], { cwd: ROOT, env, stdio: "ignore" });
  const deadline = Date.now() + 60_000;
  while (!(await fetch(`http://127.0.0.1:${port}/livez`).catch(() => null))) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error("The service does not start.");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    port,
    async stop() {
      child.kill("SIGTERM");
      await once(child, "exit");
      rmSync(folder, { recursive: true });
    },
  };
}

export const LOST = "The connection is closed instead of the response.";
export interface Canned { status: number; headers?: Record<string, string>; body?: string }
export type Fault = typeof LOST | Canned | ((body: any) => unknown);
export interface Recorded { method: string; path: string; headers: IncomingHttpHeaders; body: string }

/** Start a proxy, which records the requests. */
export async function startProxy(port: number) {
  const requests: Recorded[] = [];
  const faults = new Map<string, Fault[]>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const [method, path, body] = [request.method!, request.url!, Buffer.concat(chunks).toString()];
    requests.push({ method, path, headers: request.headers, body });
    const fault = faults.get(path.split("?")[0]!)?.shift();
    if (typeof fault === "object") {
      response.writeHead(fault.status, fault.headers).end(fault.body);
      return;
    }
    const { connection, host, "content-length": length, "transfer-encoding": encoding, ...headers } = request.headers;
    const received = await fetch(`http://127.0.0.1:${port}${path}`, {
      method, headers: headers as Record<string, string>, body: body || null,
    });
    const text = await received.text();
    if (fault === LOST) {
      request.socket.destroy();
      return;
    }
    for (const [name, value] of received.headers) {
      if (!["connection", "content-encoding", "content-length", "transfer-encoding"].includes(name)) {
        response.setHeader(name, value);
      }
    }
    response.writeHead(received.status).end(fault ? JSON.stringify(fault(JSON.parse(text))) : text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`,
    requests,
    /** Set what happens to the next requests to a path. */
    fail: (path: string, ...next: Fault[]) => faults.set(`/api/v1${path}`, next),
    refreshes: () => requests.filter(({ path }) => path.startsWith("/api/v1/tokens/refresh")).map(({ body }) => body),
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
export type Proxy = Awaited<ReturnType<typeof startProxy>>;

/** An error response for `fail`. */
export function problem(status: number, code: string, headers: Record<string, string> = {}): Canned {
  const body = JSON.stringify({ type: "", title: "", status, detail: "", code, request_id: "" });
  return { status, headers: { "Content-Type": "application/problem+json", ...headers }, body };
}
