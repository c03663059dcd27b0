// The engine: requests with the token, and the stream of events, which is read by `fetch`, since an EventSource cannot send
// one. The token is kept in this tab and never stands in an address.

const KEPT = "holdmusic.token";

const token = {
  get: () => sessionStorage.getItem(KEPT),
  keep: (value) => sessionStorage.setItem(KEPT, value),
  drop: () => sessionStorage.removeItem(KEPT),
};

/** What the engine refused, in its own words. */
class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const sent = { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" };

function withToken(headers = {}) {
  return { Authorization: `Bearer ${token.get()}`, ...headers };
}

/** Why an answer is a refusal. */
async function refusalOf(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The engine answered ${response.status}.`;
  return new Refused(response.status, message, Number(response.headers.get("retry-after")) || null);
}

/** Asks the API: the JSON of the answer, or null without one. */
async function ask(method, path, body) {
  const headers = withToken(body === undefined ? {} : { "Content-Type": "application/json" });
  let response;
  try {
    response = await fetch(path, { ...sent, method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, "The engine cannot be reached.");
  }
  if (!response.ok) throw await refusalOf(response);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

function pathOf(call, participant) {
  return `v1.0/communications/calls/${call}/participants/${participant}`;
}

/** Events a second apart come; without one for so long what is shown is old, and then the stream is begun anew. */
const STALE_MS = 4_000;
const LOST_MS = 12_000;

/** From one attempt to the next: the first at once, then twice as long each time. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/**
 * The stream of events, begun anew whenever it ends. `on.state(event, isFirst)` gets what changed, `on.link(words, tone, live)`
 * how the stream is, `on.over(message)` that the token is not good (any more).
 */
class Stream {
  constructor(on) {
    this.on = on;
    this.stopped = false;
    this.wait = FIRST_WAIT_MS;
    this.run();
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
    clearTimeout(this.later);
  }

  async run() {
    let why = null;
    while (!this.stopped) {
      try {
        await this.read();
        why = null;
      } catch (error) {
        if (this.stopped) return;
        if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
          this.stopped = true;
          this.on.over(error.message);
          return;
        }
        why = error instanceof Refused ? error : null;
      }
      if (this.stopped) return;
      const wait = Math.max(this.wait * (0.75 + Math.random() / 2), (why?.retryAfter ?? 0) * 1000);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
      await this.pause(wait, why?.message);
    }
  }

  async pause(ms, message) {
    const until = performance.now() + ms;
    while (!this.stopped && performance.now() < until) {
      const left = Math.ceil((until - performance.now()) / 1000);
      this.on.link(`Reconnecting in ${left} s`, "bad", false, message ?? "The engine cannot be reached.");
      await new Promise((resolve) => (this.later = setTimeout(resolve, Math.min(1000, until - performance.now()))));
    }
  }

  async read() {
    this.on.link("Connecting", "warn", false);
    this.abort = new AbortController();
    let heard = performance.now();
    const watchdog = setInterval(() => {
      const silent = performance.now() - heard;
      if (silent > LOST_MS) this.abort.abort();
      else if (silent > STALE_MS) this.on.link(`No news for ${Math.floor(silent / 1000)} s`, "warn", false);
    }, 500);
    try {
      const response = await fetch("console/events", { ...sent, headers: withToken(), signal: this.abort.signal });
      if (!response.ok) throw await refusalOf(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      let isFirst = true;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard = performance.now();
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const [, kind, data] = event.match(/^event: (\w+)\ndata: (.*)$/) ?? [];
          if (kind === "over") {
            const { status, message } = JSON.parse(data);
            throw new Refused(status, message);
          }
          if (kind !== "state") continue;
          this.wait = FIRST_WAIT_MS;
          this.on.state(JSON.parse(data), isFirst);
          this.on.link("Live", "good", true);
          isFirst = false;
        }
      }
    } finally {
      clearInterval(watchdog);
      // Whatever the stream still has is not wanted.
      this.abort.abort();
    }
  }
}
