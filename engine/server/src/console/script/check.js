// A prompt looked at before anybody hears it: the report in words, and its picture.

function checkPrompt() {
  const form = byId("check-form");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const uri = byId("check-uri").value.trim();
    say(byId("check-problem"), "");
    button.disabled = true;
    say(button, "Checking …");
    try {
      const body = { "@odata.type": "#microsoft.graph.mediaPrompt", mediaInfo: { uri } };
      byId("check-report").replaceChildren(...checkReport(await ask("POST", "v1.0/communications/prompts/check", body)));
    } catch (error) {
      if (error.status === 401) return signOut(error.message);
      say(byId("check-problem"), error.message);
    } finally {
      button.disabled = false;
      say(button, "Check");
    }
  });
}

function checkReport(report) {
  const verdict = chip();
  tell(verdict, report.playable ? ["Can be played", "good"] : ["Cannot be played", "bad"]);
  const head = el("div", { class: "verdict" }, verdict, el("span", { class: "address" }, report.prompt?.mediaInfo.uri ?? ""));
  if (!report.playable) return [head, el("p", { class: "reason" }, report.resultInfo.message)];
  const { recording, played, ready, waveform } = report;
  const facts = new Facts({ class: "report" });
  facts.show([
    ["Recording", recording.format, null, `${(recording.durationMs / 1000).toFixed(1)} s, ${bytes(report.bytes)}`],
    ["Loudness", `${recording.loudnessLufs?.toFixed(1) ?? "–"} LUFS`, null, `true peak ${recording.truePeakDbtp?.toFixed(1) ?? "–"} dBTP`],
    ["Played at", `${played.loudnessLufs?.toFixed(1) ?? "–"} LUFS`, null, `gain ${decibels(played.gainDb)}`],
    ["Seam, as heard", decibels(played.seamDb), played.seamDb >= 6 ? "warn" : null, "against the sound around it"],
    ["Ready after", millis(ready.totalMs), ready.withinGrace ? null : "warn", ready.withinGrace ? "heard first" : "default music first"],
    ["A lap", `${(played.lapMs / 1000).toFixed(1)} s`, null, [played.codec, played.bitsPerSecond && `${Math.round(played.bitsPerSecond / 1000)} kbit/s`].filter(Boolean).join(", ")],
  ]);
  const warnings = report.warnings.map(({ message }) => el("li", {}, message));
  return [head, picture(recording, waveform), legend(recording), facts.node, warnings.length ? el("ul", { class: "warnings", "aria-label": "Warnings" }, ...warnings) : null].filter(Boolean);
}

const [WIDE, HIGH] = [1000, 180];

/** The outline of the recording: lowest to highest sample and effective level of each column, silence and loop points. */
function picture(recording, { columnMs, lowest, highest, rms }) {
  const columns = highest.length;
  const seconds = (columns * columnMs) / 1000;
  const most = Math.max(0.05, ...highest, ...lowest.map((sample) => -sample));
  const y = (sample) => (HIGH / 2) * (1 - sample / most);
  const x = (ms) => (ms / (columns * columnMs)) * WIDE;
  const band = (upper, lower) => {
    const over = upper.map((sample, at) => `${x((at + 0.5) * columnMs).toFixed(1)} ${y(sample).toFixed(1)}`);
    const under = lower.map((sample, at) => `${x((at + 0.5) * columnMs).toFixed(1)} ${y(sample).toFixed(1)}`).reverse();
    return `M${over.join("L")}L${under.join("L")}Z`;
  };
  const silence = (from, ms) => (ms > 0 ? svg("rect", { class: "silence", x: x(from), y: 0, width: x(ms), height: HIGH }) : null);
  const end = columns * columnMs;
  const loop = recording.loopPoints && [recording.loopPoints.startMs, recording.loopPoints.endMs].filter((ms) => ms != null).map((ms) => svg("line", { class: "loop", x1: x(ms), x2: x(ms), y1: 0, y2: HIGH }));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600].find((step) => seconds / step <= 8) ?? 600;
  const times = el("div", { class: "times", "aria-hidden": "true" });
  for (let at = step; at < seconds * 0.98; at += step) {
    const time = el("span", {}, `${Number(at.toFixed(1))} s`);
    time.style.left = `${((at * 1000) / end) * 100}%`;
    times.append(time);
  }
  const drawing = svg(
    "svg",
    { class: "picture", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": `Outline of the recording, ${seconds.toFixed(1)} seconds long` },
    silence(0, recording.silenceBeforeMs),
    silence(end - recording.silenceBehindMs, recording.silenceBehindMs),
    svg("path", { class: "peak", d: band(highest, lowest) }),
    svg("path", { class: "rms", d: band(rms.map((level, at) => Math.min(level, highest[at])), rms.map((level, at) => Math.max(-level, lowest[at]))) }),
    svg("line", { class: "axis", x1: 0, x2: WIDE, y1: HIGH / 2, y2: HIGH / 2 }),
    ...(loop ?? []),
  );
  return el("div", {}, drawing, times);
}

function legend(recording) {
  const entry = (kind, words) => el("span", {}, el("i", { class: kind }), words);
  const isSilent = recording.silenceBeforeMs + recording.silenceBehindMs > 10;
  return el("p", { class: "legend", "aria-hidden": "true" }, entry("pale", "lowest to highest sample"), entry("", "effective level"), isSilent ? entry("gray", "silence at the ends") : null, recording.loopPoints ? entry("mark", "loop points") : null);
}
