// What stands around the console in a test: the engine, a web server with prompts, a bot, a participant's UDP port.

import { spawn } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const TOKEN = "token-of-the-tests";
const BINARY = process.env.BINARY ?? join(ROOT, "target", "release", "holdmusic");
const PATIENCE_MS = 20_000;

/** Gives up after so long, saying what for. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error(`${what} took longer than ${ms} ms`)), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The real binary with a data directory of its own; ended by its process id. */
export class Engine {
  static async start(data, listen = "127.0.0.1:0", flags = []) {
    const engine = new Engine();
    const args = ["serve", "--listen", listen, "--data", data, "--token", TOKEN, "--allow-fetch", "127.0.0.0/8", ...flags];
    engine.log = "";
    engine.process = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] });
    engine.process.stderr.on("data", (bytes) => (engine.log += bytes));
    engine.ended = once(engine.process, "exit");
    const lines = createInterface({ input: engine.process.stdout });
    const [line] = await within(PATIENCE_MS, "the engine", Promise.race([once(lines, "line"), engine.ended.then(() => [""])]));
    if (!line.startsWith("holdmusic ready ")) throw new Error(`the engine did not become ready: ${engine.log}`);
    engine.url = line.split(" ")[2];
    engine.listen = new URL(engine.url).host;
    return engine;
  }

  /** Asks the API. */
  async ask(method, path, body) {
    const url = path.startsWith("http") ? path : `${this.url}/v1.0/communications${path}`;
    const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
    const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return { location: response.headers.get("location"), body: text ? JSON.parse(text) : null };
  }

  /** Ends it as an operator does: the milliseconds that it took. */
  async end() {
    const began = performance.now();
    this.process.kill("SIGTERM");
    const [code] = await within(PATIENCE_MS, "the end of the engine", this.ended);
    if (code !== 0 || this.log.includes("panicked")) throw new Error(`its exit code was ${code}:\n${this.log}`);
    if (this.log.includes(TOKEN)) throw new Error("its log shows the token");
    return performance.now() - began;
  }

  kill() {
    if (this.process.exitCode === null) this.process.kill("SIGKILL");
  }
}

/** A web server with the fixtures of the tests, which takes what a bot is told. */
export async function web() {
  const server = http.createServer(async (request, response) => {
    request.resume();
    if (request.method === "POST") return response.writeHead(202).end();
    const name = basename(new URL(request.url, "http://host").pathname);
    const bytes = await readFile(join(ROOT, "assets", "fixtures", name)).catch(() => null);
    response.writeHead(bytes ? 200 : 404, { "Content-Type": "audio/wav" }).end(bytes ?? "");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Where a participant listens: packets are counted. */
export async function phone() {
  const socket = dgram.createSocket("udp4");
  const heard = { packets: 0 };
  // The second octet of RTCP is 200 to 207.
  socket.on("message", (bytes) => (heard.packets += bytes[1] >= 200 && bytes[1] <= 207 ? 0 : 1));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return { heard, address: `127.0.0.1:${socket.address().port}`, close: () => socket.close() };
}
