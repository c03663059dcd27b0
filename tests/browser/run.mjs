// A browser looks at the console as an operator does: by mouse, by keyboard alone, in light and dark, on a phone; then it
// listens in. Prints a line for each step; the exit code is 0 if every step held.
//
//     node run.mjs [--pictures DIR]      pictures of the page go there (target/browser)

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Steps, pause } from "../clients/steps.mjs";
import { PROBE_LATE_MS, judge, listen } from "./listening.mjs";
import { Engine, ROOT, TOKEN, phone, web } from "./stage.mjs";

const MADE = join(ROOT, "target", "browser");
const { chromium } = createRequire(join(MADE, "npm", "package.json"))("playwright-core");
const PICTURES = process.argv.includes("--pictures") ? process.argv[process.argv.indexOf("--pictures") + 1] : MADE;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  // Names of candidates would have to be resolved by multicast.
  "--disable-features=WebRtcHideLocalIpsWithMdns",
];
const DESK = { width: 1440, height: 1000 };
const PHONE = { width: 390, height: 844 };

const steps = new Steps();
const step = (claim, body) => steps.step(claim, body);

function check(holds, words) {
  if (!holds) throw new Error(words);
}

/** Waits until `find` finds something that is true; says what was found. */
async function until(what, find, ms = 8_000) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (performance.now() > end) throw new Error(`${what} did not come within ${ms} ms`);
    await pause(50);
  }
}

/** What a page must never do. */
const wrong = [];

async function open(browser, { theme = "light", size = DESK, errorsExpected = false } = {}) {
  const context = await browser.newContext({ colorScheme: theme, viewport: size, reducedMotion: "reduce", deviceScaleFactor: size === PHONE ? 2 : 1 });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`)));
  await page.addInitScript(() => {
    // Its connections can be asked by the test.
    window.connections = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...how) {
        super(...how);
        window.connections.push(this);
      }
    };
  });
  page.on("pageerror", (error) => wrong.push(`${error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !(errorsExpected && message.text().startsWith("Failed to load resource"))) wrong.push(`${message.text()} ${message.location().url}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(engine.url) && !request.url().startsWith("data:")) wrong.push(`it asks ${request.url()}`);
    if (request.url().includes(TOKEN)) wrong.push(`the token is in ${request.url()}`);
  });
  await page.goto(engine.url);
  return page;
}

async function signIn(page) {
  await page.getByLabel("Token", { exact: true }).fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await live(page);
}

const live = (page) => page.locator("#connection", { hasText: "Live" }).waitFor();

const person = (page, name) => page.locator(".person", { hasText: name });

/** The page is no wider than the window. */
async function fits(page) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  check(wide <= window, `the page is ${wide} px wide in a window of ${window} px`);
}

/** Everything that can be used has a name, and no text is too pale to be read (WCAG 2.2, 1.4.3: 4.5 to 1). */
async function isAccessible(page) {
  const problems = await page.evaluate(() => {
    const shown = (node) => node.getClientRects().length > 0;
    const problems = [];
    for (const node of document.querySelectorAll("button, input, a, canvas, [role=img], [role=meter]")) {
      if (!shown(node)) continue;
      const named = node.getAttribute("aria-label") || node.textContent.trim() || [...(node.labels ?? [])].map((label) => label.textContent.trim()).join("");
      if (!named) problems.push(`no name: ${node.outerHTML.slice(0, 80)}`);
    }
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const parse = (colour, under = [255, 255, 255]) => {
      probe.fillStyle = `rgb(${under.join(" ")})`;
      probe.fillRect(0, 0, 1, 1);
      probe.fillStyle = colour;
      probe.fillRect(0, 0, 1, 1);
      return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const ground = (node) => {
      const layers = [];
      for (let at = node; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
      return layers.reduce((under, layer) => parse(layer, under), parse("canvas"));
    };
    const light = (rgb) => rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const node = text.parentElement;
      if (!text.data.trim() || !shown(node) || node.closest(".unseen, .skip, script, style, :disabled")) continue;
      const under = ground(node);
      const [one, other] = [light(parse(getComputedStyle(node).color, under)), light(under)];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      const key = `${node.tagName}.${node.className}`;
      if (contrast < 4.5 && !seen.has(key)) problems.push(`contrast ${contrast.toFixed(2)}: ${key} “${text.data.trim().slice(0, 30)}”`);
      seen.add(key);
    }
    return problems;
  });
  check(!problems.length, problems.join("; "));
}

/** How long the browser listens, in seconds. */
const LISTEN_S = 30;

const picture = (page, name, options = {}) => page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled", ...options });

/** What the keyboard is on. */
const focused = (page) =>
  page.evaluate(() => {
    const node = document.activeElement;
    const style = getComputedStyle(node.matches(".theme input") ? node.nextElementSibling : node);
    return { name: node.getAttribute("aria-label") ?? node.textContent.trim().slice(0, 40), id: node.id, seen: style.outlineStyle !== "none" && style.outlineWidth !== "0px" };
  });

/** Presses Tab until the focus is where it is wanted; each stop on the way can be seen. */
async function tabTo(page, wanted, most = 60) {
  for (let presses = 1; presses <= most; presses++) {
    await page.keyboard.press("Tab");
    const at = await focused(page);
    check(at.seen, `the focus on “${at.name}” cannot be seen`);
    if (wanted(at)) return presses;
  }
  throw new Error(`it is not reached with ${most} presses of Tab`);
}

const data = await mkdtemp(join(tmpdir(), "holdmusic-browser-"));
await mkdir(PICTURES, { recursive: true });
let engine = await Engine.start(data);
const [server, udp] = [await web(), await phone()];
const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
const people = {};

async function makeCall() {
  const { body: call } = await engine.ask("POST", "/calls", { callbackUri: `${server.url}/bot?signature=secret`, holdMusic: { maxHeldParticipants: 5 } });
  for (const name of ["Ada Lovelace", "Charles Babbage", "Mary Somerville"]) {
    const info = { identity: { user: { displayName: name } } };
    const mediaLeg = { rtp: { address: udp.address, codec: "opus", payloadType: 111 } };
    const { location } = await engine.ask("POST", `/calls/${call.id}/participants`, { info, mediaLeg });
    people[name] = location;
  }
  return call.id;
}

async function story() {
  let page;
  await step("a wrong token is refused in words, and nothing is shown", async () => {
    page = await open(browser, { errorsExpected: true });
    await page.getByLabel("Token", { exact: true }).fill("wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("The access token is not").or(page.locator("#sign-in-problem:not(:empty)")).first().waitFor();
    check(await page.locator("#console").isHidden(), "the console is shown");
    const said = await page.locator("#sign-in-problem").textContent();
    await page.context().close();
    return said;
  });

  await step("with the token it is live, and says how to make a first call", async () => {
    page = await open(browser);
    await picture(page, "sign-in");
    await signIn(page);
    await page.getByText("No calls yet").waitFor();
    check((await page.locator(".snippet pre").textContent()).includes(`${engine.url}/v1.0/communications`), "the commands name another engine");
    check((await page.evaluate(() => document.cookie + localStorage.length)) === "0", "something is kept beyond the tab");
    await picture(page, "empty");
    await isAccessible(page);
  });

  await step("a call and its participants appear without being asked for", async () => {
    await makeCall();
    await person(page, "Ada Lovelace").waitFor();
    // News comes once a second, perhaps between two of them.
    await until("all three", async () => (await page.locator(".person").count()) === 3);
    check(!(await page.content()).includes("secret"), "the secret of a callback is shown");
  });

  await step("a hold that a bot starts is seen, and the sink hears it", async () => {
    await engine.ask("POST", `${people["Ada Lovelace"]}/startHoldMusic`, {});
    await person(page, "Ada Lovelace").getByText("On hold").waitFor();
    await until("music", () => udp.heard.packets > 20);
    await page.locator("#figures div", { hasText: "On hold" }).locator("dd", { hasText: /^1$/ }).waitFor();
    await page.locator("#operations-list tr", { hasText: "Start hold" }).getByText("Completed").waitFor();
  });

  await step("by hand a hold is stopped", async () => {
    await page.getByRole("button", { name: "Stop the hold of Ada Lovelace" }).click();
    await person(page, "Ada Lovelace").getByText("Talking").waitFor();
    await person(page, "Ada Lovelace").getByText("last hold: stopped").waitFor();
    await page.locator("#operations-list tr", { hasText: "Stop hold" }).waitFor();
    const before = udp.heard.packets;
    await pause(300);
    check(udp.heard.packets === before, "music goes on after the stop");
  });

  await step("by hand a hold is started with a prompt, whose address is shown without its secret", async () => {
    await person(page, "Charles Babbage").getByRole("button").first().click();
    await page.getByLabel("Prompt", { exact: true }).fill(`${server.url}/music-16k.wav?signature=secret`);
    await page.getByRole("button", { name: "Put on hold", exact: true }).click();
    await person(page, "Charles Babbage").getByText("On hold").waitFor();
    await person(page, "Charles Babbage").getByText("music-16k.wav").waitFor();
    await page.locator("#detail .report").first().getByText("Packets", { exact: true }).waitFor();
    await page.locator("#prompts-list").getByText(`${server.url}/music-16k.wav`).waitFor();
    check(!(await page.locator("main").innerText()).includes("secret"), "the secret of a prompt is shown");
  });

  await step("a prompt that is no good is named, and what is wrong with an address too", async () => {
    await page.getByLabel("Prompt", { exact: true }).fill(`${server.url}/nothing.wav`);
    await page.getByRole("button", { name: "Change the music" }).click();
    await page.locator("#detail .reason", { hasText: "httpStatus" }).waitFor();
  });

  await step("a prompt is checked, with its picture", async () => {
    await page.getByLabel("Address of the recording").fill(`${server.url}/music-16k.wav`);
    await page.getByRole("button", { name: "Check", exact: true }).click();
    await page.getByText("Can be played").waitFor();
    const outline = await page.locator("svg.picture path.peak").getAttribute("d");
    check(outline.length > 1_000 && !outline.includes("NaN"), `an outline of ${outline.length} characters`);
  });

  await step("the graphs show what the senders did", async () => {
    const label = page.getByRole("img", { name: /Packet gaps\. half ≤ \d/ });
    await label.waitFor();
    const coloured = await page.locator(".plot canvas").evaluateAll((all) => all.map((canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.filter((part, at) => at % 4 === 3 && part > 0).length));
    check(coloured.every((pixels) => pixels > 20), `${coloured} coloured pixels`);
    return label.getAttribute("aria-label");
  });

  await step("it is readable and fits in light and dark, on a desk and on a phone", async () => {
    // The graphs need some seconds to look like something.
    await engine.ask("POST", `${people["Mary Somerville"]}/startHoldMusic`, {});
    await person(page, "Mary Somerville").getByText("On hold").waitFor();
    for (const theme of ["light", "dark"]) {
      await page.getByRole("radio", { name: theme, exact: false }).check({ force: true });
      for (const [name, size] of [["desk", DESK], ["phone", PHONE]]) {
        await page.setViewportSize(size);
        await page.evaluate(() => scrollTo(0, 0));
        await fits(page);
        await isAccessible(page);
        await picture(page, `${name}-${theme}`, { fullPage: true });
      }
    }
    await page.setViewportSize(DESK);
    await page.getByRole("radio", { name: "Auto" }).check({ force: true });
  });

  await step("the system's own wish for dark is followed", async () => {
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.emulateMedia({ colorScheme: "dark" });
    check((await ground()) !== light, `both are ${light}`);
    await page.emulateMedia({ colorScheme: "light" });
  });

  await step("the keyboard alone signs in, holds and stops", async () => {
    const keys = await open(browser);
    await until("the field", async () => (await focused(keys)).id === "token");
    await keys.keyboard.type(TOKEN);
    await keys.keyboard.press("Enter");
    await live(keys);
    await keys.evaluate(() => document.activeElement.blur());
    const presses = await tabTo(keys, ({ name }) => name === "Put Ada Lovelace on hold with default music");
    await keys.keyboard.press("Enter");
    await person(keys, "Ada Lovelace").getByText("On hold").waitFor();
    check((await focused(keys)).name === "Stop the hold of Ada Lovelace", "the focus is lost");
    await keys.keyboard.press("Space");
    await person(keys, "Ada Lovelace").getByText("Talking").waitFor();
    await keys.keyboard.press("ArrowDown");
    check((await focused(keys)).name.includes("Charles Babbage"), "the arrow leads to the next one");
    await keys.keyboard.press("Shift+Tab");
    await keys.keyboard.press("Enter");
    await keys.locator("#detail h2", { hasText: "Charles Babbage" }).waitFor();
    await tabTo(keys, ({ id }) => id === "check-uri");
    await tabTo(keys, ({ name }) => name === "Check");
    await keys.context().close();
    return `${presses} presses of Tab to the first participant's hold`;
  });

  await step("it listens in: every packet, on time, and sound", async () => {
    await person(page, "Mary Somerville").getByRole("button").first().click();
    await page.getByRole("button", { name: "Listen in" }).click();
    await page.locator("#heard").getByText("connected").waitFor();
    const heard = await page.evaluate(listen, { seconds: LISTEN_S, lateMs: PROBE_LATE_MS });
    // docs/console.png is this one.
    await page.setViewportSize({ width: 1280, height: 1240 });
    await picture(page, "console");
    await page.setViewportSize(DESK);
    const level = Number(await page.getByRole("meter").getAttribute("aria-valuenow"));
    await page.getByRole("button", { name: "Stop listening" }).click();
    const { body } = await engine.ask("GET", people["Mary Somerville"]);
    const words = `${judge(heard)}, the meter ${level} dB`;
    check(level > -50, words);
    check(!body.holdMusic.listeners, `${body.holdMusic.listeners} listeners are left`);
    return words;
  });

  await step("the engine leaves in time while it is watched, and the console comes back with it", async () => {
    const [took, listen] = [await engine.end(), engine.listen];
    await page.locator("#connection", { hasText: "Reconnecting" }).waitFor();
    await picture(page, "away");
    engine = await Engine.start(data, listen);
    await live(page);
    await person(page, "Mary Somerville").getByText("On hold").waitFor();
    check(took < 5_000, `it took ${took.toFixed(0)} ms`);
    return `${took.toFixed(0)} ms`;
  });

  await step("signing out forgets everything", async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    check(await page.locator("#console").isHidden(), "the console is shown");
    check((await page.evaluate(() => sessionStorage.length)) === 0, "the token is kept");
    await page.context().close();
  });
}

try {
  await story();
  await step("no policy was violated, nothing else was asked for, and the page made no mistake", () => {
    // While the engine is away requests fail, and the browser says so.
    const others = wrong.filter((words) => !words.includes("ERR_CONNECTION_REFUSED") && !words.includes("ERR_INCOMPLETE_CHUNKED_ENCODING"));
    check(!others.length, others.join("; "));
  });
} finally {
  await browser.close();
  await engine.end().catch(() => engine.kill());
  server.close();
  udp.close();
  await rm(data, { recursive: true, force: true });
}
console.log(`\n${steps.failed} failed`);
process.exit(steps.failed ? 1 : 0);
