// Firefox, whose ICE, DTLS and SRTP are others than Chromium's, opens the console and listens in. It is driven by WebDriver
// BiDi, which it speaks itself. Prints a line for each step; the exit code is 0 if every step held.
//
//     node --experimental-websocket firefox.mjs      FIREFOX=path, LISTEN_S=seconds (30)

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Steps, pause } from "../clients/steps.mjs";
import { PROBE_LATE_MS, judge, listen } from "./listening.mjs";
import { Engine, TOKEN, phone, web, within } from "./stage.mjs";

const FIREFOX = process.env.FIREFOX ?? "firefox-esr";
const LISTEN_S = Number(process.env.LISTEN_S ?? 30);
const PREFERENCES = {
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  "media.autoplay.default": 0,
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "network.captive-portal-service.enabled": false,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
};

/** A browser with a profile of its own; ended by its process id. */
class Firefox {
  waiting = new Map();
  last = 0;
  told = [];

  static async start(profile) {
    const firefox = new Firefox();
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
    await writeFile(join(profile, "user.js"), lines.join("\n"));
    const flags = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"];
    firefox.process = spawn(FIREFOX, flags, { stdio: ["ignore", "ignore", "pipe"] });
    firefox.ended = once(firefox.process, "exit");
    firefox.ended.catch(() => {});
    const where = new Promise((found) => {
      createInterface({ input: firefox.process.stderr }).on("line", (line) => {
        const address = /WebDriver BiDi listening on (\S+)/.exec(line);
        if (address) found(address[1]);
      });
    });
    const address = await within(60_000, "Firefox", Promise.race([where, once(firefox.process, "error").then(([error]) => Promise.reject(error))]));
    firefox.socket = new WebSocket(`${address}/session`);
    firefox.socket.addEventListener("message", ({ data }) => firefox.hear(JSON.parse(data)));
    await within(20_000, "the connection to Firefox", once(firefox.socket, "open"));
    await firefox.ask("session.new", { capabilities: {} });
    await firefox.ask("session.subscribe", { events: ["log.entryAdded"] });
    // Its connections can be asked by the test.
    const functionDeclaration = `() => {
      window.connections = [];
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...how) {
          super(...how);
          window.connections.push(this);
        }
      };
    }`;
    await firefox.ask("script.addPreloadScript", { functionDeclaration });
    const { contexts } = await firefox.ask("browsingContext.getTree", {});
    firefox.context = contexts[0].context;
    return firefox;
  }

  hear(message) {
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.type === "success") waiting?.done(message.result);
    else if (message.type === "error") waiting?.fail(new Error(`${message.error}: ${message.message}`));
    else if (message.params?.level === "error") this.told.push(message.params.text);
  }

  ask(method, params) {
    const id = ++this.last;
    const answer = new Promise((done, fail) => this.waiting.set(id, { done, fail }));
    this.socket.send(JSON.stringify({ id, method, params }));
    return within(120_000, method, answer);
  }

  /** What `body` gives in the page, with `argument`. */
  async evaluate(body, argument) {
    const expression = `(async () => JSON.stringify((await (${body})(${JSON.stringify(argument ?? null)})) ?? null))()`;
    const answer = await this.ask("script.evaluate", { expression, target: { context: this.context }, awaitPromise: true, userActivation: true });
    if (answer.type === "exception") throw new Error(answer.exceptionDetails.text);
    return JSON.parse(answer.result.value);
  }

  /** Waits until `body` is true in the page. */
  async until(what, body, argument, ms = 10_000) {
    for (const end = performance.now() + ms; performance.now() < end; await pause(50)) {
      if (await this.evaluate(body, argument)) return;
    }
    throw new Error(`${what} did not come within ${ms} ms`);
  }

  async press(name) {
    const press = (name) => {
      const named = (node) => (node.getAttribute("aria-label") ?? node.textContent).trim() === name && node.getClientRects().length > 0;
      const button = [...document.querySelectorAll("button")].find(named);
      button?.click();
      return Boolean(button);
    };
    await this.until(`the button “${name}”`, press, name);
  }

  async end() {
    this.process.kill("SIGTERM");
    await within(20_000, "the end of Firefox", this.ended).catch(() => this.process.kill("SIGKILL"));
  }
}

/** Somebody who is on hold at `engine`, and the console of it. */
async function look(engine, firefox) {
  const { body: call } = await engine.ask("POST", "/calls", { callbackUri: `${server.url}/bot` });
  const info = { identity: { user: { displayName: "Mary Somerville" } } };
  const mediaLeg = { rtp: { address: udp.address, codec: "opus", payloadType: 111 } };
  const { location } = await engine.ask("POST", `/calls/${call.id}/participants`, { info, mediaLeg });
  await engine.ask("POST", `${location}/startHoldMusic`, {});
  await firefox.ask("browsingContext.navigate", { context: firefox.context, url: engine.url, wait: "complete" });
  await firefox.evaluate((token) => {
    document.getElementById("token").value = token;
    document.getElementById("token").form.requestSubmit();
  }, TOKEN);
  await firefox.until("the live console", () => document.getElementById("connection").textContent.includes("Live"));
  await firefox.until("the hold", () => document.querySelector(".person")?.textContent.includes("On hold"));
  await firefox.evaluate(() => document.querySelector(".person button").click());
}

const steps = new Steps();
const [data, profile] = await Promise.all(["data", "profile"].map((name) => mkdtemp(join(tmpdir(), `holdmusic-firefox-${name}-`))));
// Without the permission to use a microphone it offers the address by which it reaches others, and pairs that with no loopback
// address. What is sent to the machine's own address does not leave it.
const own = Object.values(networkInterfaces()).flat().find((address) => address.family === "IPv4" && !address.internal)?.address;
if (!own) {
  console.log("This machine has no address but loopback, by which Firefox connects to nobody.");
  process.exit(1);
}
const engine = await Engine.start(data, "127.0.0.1:0", ["--media-bind", own, "--allow-media", `${own}/32`, "--allow-media", "127.0.0.0/8"]);
const [server, udp] = [await web(), await phone()];
let firefox;
try {
  firefox = await Firefox.start(profile);

  await steps.step("with the token it is live, and sees who is on hold", () => look(engine, firefox));

  await steps.step("it listens in: every packet, on time, and sound", async () => {
    await firefox.press("Listen in");
    await firefox.until("the connection", () => document.getElementById("heard").textContent.includes("connected"));
    const words = judge(await firefox.evaluate(listen, { seconds: LISTEN_S, lateMs: PROBE_LATE_MS }));
    const agreed = await firefox.evaluate(async () => {
      const all = [...(await window.connections.at(-1).getStats()).values()];
      const transport = all.find((one) => one.type === "transport");
      return `${transport?.srtpCipher ?? ""} ${transport?.tlsVersion ?? ""} ${all.find((one) => one.type === "codec")?.mimeType ?? ""}`.trim();
    });
    await firefox.press("Stop listening");
    return `${words} ${agreed}`;
  });

  await steps.step("the page made no mistake", () => {
    if (firefox.told.length) throw new Error(firefox.told.join("; "));
  });

  await steps.step("an engine on loopback is not reached, and the page says why", async () => {
    const alone = await Engine.start(join(data, "alone"));
    try {
      await look(alone, firefox);
      await firefox.press("Listen in");
      await firefox.until("the reason", () => document.body.textContent.includes("a loopback address, to which Firefox does not connect"), null, 40_000);
    } finally {
      await alone.end().catch(() => alone.kill());
    }
  });
} finally {
  await firefox?.end();
  await engine.end().catch(() => engine.kill());
  server.close();
  udp.close();
  await Promise.all([data, profile].map((directory) => rm(directory, { recursive: true, force: true })));
}
console.log(`\n${steps.failed} failed`);
process.exit(steps.failed ? 1 : 0);
