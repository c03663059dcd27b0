// Listen in: this browser becomes a listener of one participant by WHEP, and gets the very packets that it is sent.

/** How long candidates may be looked for; what has been found by then is offered. */
const GATHERING_MS = 2_000;

/** The lower end of the meter. */
const FLOOR_DB = -60;

/** Why a browser has never reached the engine, as far as the answer shows it. */
function unreached(answer) {
  const [, address, port] = /^a=candidate:\S+ 1 udp \d+ (\S+) (\d+)/im.exec(answer) ?? [];
  if (!address) return "The browser has not reached the engine.";
  const words = `The browser has not reached ${address}, UDP port ${port}.`;
  const isLoopback = address.startsWith("127.") || address === "::1";
  return isLoopback ? `${words} That is a loopback address, to which Firefox does not connect: start the engine with --media-bind and an address of its machine.` : words;
}

class Listener {
  /** `on.figures(figures)` once a second, `on.level(db)` for each picture, `on.ended(message)` when it is over. */
  constructor(call, participant, on) {
    Object.assign(this, { call, participant, on, ended: false });
  }

  /** Begins to listen. The click that leads here is what lets a browser play sound. */
  async begin() {
    this.context = new AudioContext();
    const connection = (this.connection = new RTCPeerConnection());
    connection.addTransceiver("audio", { direction: "recvonly" });
    connection.addEventListener("track", ({ track, streams }) => this.play(streams[0] ?? new MediaStream([track])));
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "connected") this.reached = true;
      if (connection.connectionState === "failed") this.end(this.reached ? "The connection was lost. The participant may be gone, or have another leg." : unreached(this.answer));
    });
    try {
      await connection.setLocalDescription();
      await gathered(connection);
      const path = `${pathOf(this.call, this.participant)}/listeners`;
      const { token: own } = await ask("POST", `${path}/token`, {});
      if (this.ended) return;
      const headers = { Authorization: `Bearer ${own}`, "Content-Type": "application/sdp" };
      const response = await fetch(path, { ...sent, method: "POST", headers, body: connection.localDescription.sdp });
      if (!response.ok) throw await refusalOf(response);
      // Where a proxy stands between, `Location` may name another host than this page's.
      const session = response.headers.get("location")?.split("/").at(-1);
      this.leave = () => fetch(`${path}/${session}`, { ...sent, method: "DELETE", headers: { Authorization: `Bearer ${own}` }, keepalive: true }).catch(() => {});
      if (this.ended) return void this.leave();
      this.answer = await response.text();
      await connection.setRemoteDescription({ type: "answer", sdp: this.answer });
      this.timer = setInterval(() => this.look(), 1000);
    } catch (error) {
      this.end(error.message);
    }
  }

  play(stream) {
    // Chromium gives sound to Web Audio only while an element plays the stream too.
    this.element = el("audio", { autoplay: true });
    this.element.srcObject = stream;
    this.element.play().catch((error) => this.end(`The browser does not play sound: ${error.message}`));
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 1024;
    this.context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const measure = () => {
      if (this.ended) return;
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      this.on.level(Math.max(FLOOR_DB, 10 * Math.log10(power + 1e-9)));
      requestAnimationFrame(measure);
    };
    measure();
  }

  async look() {
    const report = await this.connection.getStats();
    const now = [...report.values()].find((one) => one.type === "inbound-rtp" && one.kind === "audio");
    const { before } = this;
    this.before = now;
    if (!now || this.ended) return;
    const codec = report.get(now.codecId);
    const seconds = before && (now.timestamp - before.timestamp) / 1000;
    this.on.figures({
      state: this.connection.connectionState,
      codec: codec?.mimeType?.replace("audio/", ""),
      perSecond: seconds ? (now.packetsReceived - before.packetsReceived) / seconds : null,
      received: now.packetsReceived,
      lost: now.packetsLost,
      jitterMs: now.jitter * 1000,
      concealed: now.totalSamplesReceived ? now.concealedSamples / now.totalSamplesReceived : null,
      buffered: now.jitterBufferEmittedCount ? (now.jitterBufferDelay / now.jitterBufferEmittedCount) * 1000 : null,
    });
  }

  end(message) {
    if (this.ended) return;
    this.ended = true;
    clearInterval(this.timer);
    // Closed behind it: a connection that says goodbye ends the listener too, and then there is none to be ended.
    (this.leave?.() ?? Promise.resolve()).finally(() => this.connection?.close());
    if (this.element) this.element.srcObject = null;
    this.context?.close();
    this.on.ended(message);
  }
}

/** Waits until all candidates are in the offer: there is no way to send them later. */
function gathered(connection) {
  if (connection.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, GATHERING_MS);
  });
}
