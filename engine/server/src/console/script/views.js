// What is shown of what the engine tells: figures, calls, one participant, operations, prompts.

/** Everything that was told, and what the reader has chosen. */
const state = { rows: new Map(), beats: [], first: null, chosen: null };

function rowsOf(kind) {
  const found = [];
  for (const [name, row] of state.rows) if (name.startsWith(kind)) found.push(row);
  return found;
}

const figures = new Facts({ class: "figures" });

function showFigures() {
  const totals = state.rows.get("totals") ?? { calls: 0, held: 0, preparing: 0 };
  const last = state.beats.at(-1);
  const minute = state.beats.slice(-60);
  const sum = (of) => minute.reduce((all, beat) => all + beat[of], 0);
  const [late, skipped, refused] = [sum("late"), sum("skipped"), sum("refused")];
  const packets = sum("packets");
  figures.show([
    ["On hold", count(totals.held)],
    ["Calls", count(totals.calls)],
    ["Packets a second", last ? short(last.packets) : "–"],
    ["Late, last minute", packets ? percent(late / packets) : "–", late ? "warn" : null, packets ? `${plural(late, "packet", "packets")} over 5 ms` : null],
    ["Left out, last minute", count(skipped), skipped ? "bad" : null, refused ? `${count(refused)} refused by the network` : null],
    ["Prompts on their way", count(totals.preparing)],
  ]);
}

const calls = new Rows(byId("calls-list"), (name) => {
  const title = el("strong");
  const where = el("span", { class: "where" });
  const who = el("span");
  const when = el("span", { class: "when" });
  const nobody = el("p", { class: "nobody" });
  const people = el("ul");
  const node = el("li", { class: "call" }, el("div", { class: "call-head" }, title, who, where, when), people, nobody);
  const rows = new Rows(people, personRow);
  return {
    node,
    update({ call, persons }) {
      say(title, `Call ${shortId(call.id)}`);
      mark(title, "title", call.id);
      say(where, call.callbackUri);
      say(who, `${plural(call.participants, "participant", "participants")}, ${call.held} on hold`);
      say(when, `since ${clockTime(call.createdDateTime)}`);
      rows.show(persons.map((person) => [person.id, person]));
      const others = call.participants - persons.length;
      nobody.hidden = others <= 0 && persons.length > 0;
      say(nobody, persons.length ? `and ${plural(others, "more", "more")}` : others > 0 ? plural(others, "participant", "participants") : "Nobody is in it yet.");
    },
  };
});

/** How somebody is called: by name, or else by the beginning of an id. */
function nameOf(person) {
  return person.name ?? `Participant ${shortId(person.id)}`;
}

function hears(person) {
  if (person.state === "none") return person.endedBy ? `last hold: ${ENDINGS[person.endedBy] ?? person.endedBy}` : (person.leg?.remoteAddress ?? "");
  const plays = fileName(person.plays);
  const [asked, failed] = [fileName(person.prompt), person.report?.reason];
  return person.prompt && asked !== plays ? `${plays}${failed ? " instead of" : " until"} ${asked}` : plays;
}

function sinceOf(person) {
  return person.state === "none" || !person.since ? "" : duration((Date.now() - Date.parse(person.since)) / 1000);
}

function personRow(id) {
  const name = el("span", { class: "name" });
  const where = chip();
  const what = el("span", { class: "hears" });
  const since = el("span", { class: "since" });
  const choose = el("button", { type: "button", onclick: () => chooseParticipant(id) }, name, where, what, since);
  const act = el("button", { type: "button", class: "small act", onclick: () => holdOrStop(id) });
  const node = el("li", { class: "person" }, choose, act);
  return {
    node,
    update(person) {
      say(name, nameOf(person));
      tell(where, stateOf(person));
      say(what, hears(person));
      say(since, sinceOf(person));
      const held = person.state !== "none";
      say(act, held ? "Stop" : "Hold");
      mark(act, "aria-label", held ? `Stop the hold of ${nameOf(person)}` : `Put ${nameOf(person)} on hold with default music`);
      act.disabled = !held && person.leg?.direction !== "sendOnly";
      mark(choose, "aria-pressed", state.chosen === id);
      mark(node, "data-chosen", state.chosen === id);
    },
  };
}

function showCalls() {
  const filter = byId("calls-filter").value.trim().toLowerCase();
  const heldOnly = byId("calls-held").checked;
  const persons = Map.groupBy(rowsOf("participant/"), (person) => person.call);
  const all = rowsOf("call/").sort((one, other) => other.number - one.number);
  const shown = [];
  for (const call of all) {
    const inside = (persons.get(call.id) ?? []).sort((one, other) => one.number - other.number);
    const fits = (person) =>
      (!heldOnly || person.state !== "none") &&
      (!filter || [nameOf(person), person.id, person.prompt, person.leg?.remoteAddress, stateOf(person)[0], call.id, call.callbackUri].some((text) => text?.toLowerCase().includes(filter)));
    const found = inside.filter(fits);
    if (found.length || (!filter && !heldOnly) || (!heldOnly && call.id.startsWith(filter))) shown.push([call.id, { call, persons: found }]);
  }
  calls.show(shown);
  const total = state.rows.get("totals")?.calls ?? 0;
  say(byId("calls-count"), total > all.length ? `the newest ${all.length} of ${count(total)}` : all.length ? count(all.length) : "");
  showEmpty(all.length, shown.length);
}

function showEmpty(all, shown) {
  const empty = byId("calls-empty");
  empty.hidden = shown > 0;
  if (all) return empty.replaceChildren(el("p", {}, "No call fits the filter."));
  if (!empty.querySelector(".snippet")) empty.replaceChildren(...howToBegin());
}

/** What somebody does whose engine has no call yet. */
function howToBegin() {
  const api = new URL("v1.0/communications", location.href).href;
  const callback = ["http:", "", "127.0.0.1:9000", ""].join("/");
  const lines = [
    "TOKEN=…   # the one that you signed in with",
    `API=${api}`,
    `hm() { curl -sS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }`,
    `CALL=$(hm $API/calls -d '{"callbackUri": "${callback}"}' -o /dev/null -w '%header{location}')`,
    `hm $CALL/participants -d '{"mediaLeg": {"rtp": {"address": "127.0.0.1:40000", "codec": "opus", "payloadType": 111}}}'`,
  ].join("\n");
  const copy = el("button", { type: "button", class: "small" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(lines).catch(() => {});
    announce("Copied");
  });
  return [
    el("p", {}, "No calls yet. A bot makes them; this makes one by hand, with a participant who listens on a UDP port. It appears here at once."),
    el("div", { class: "snippet" }, el("pre", { tabindex: "0", "aria-label": "Commands for a first call" }, lines), copy),
  ];
}

/** A table of rows by name; each column is a title, a class, and how its cell is filled. */
function tableOf(parent, label, columns) {
  const body = el("tbody", { role: "rowgroup" });
  const titles = columns.map(({ title, kind }) => el("th", { scope: "col", role: "columnheader", class: kind }, title));
  parent.append(el("table", { role: "table", "aria-label": label }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...titles)), body));
  return new Rows(body, () => {
    const cells = columns.map(({ title, kind, state: isState }) => {
      const inside = isState ? chip() : null;
      return { inside, node: el("td", { role: "cell", class: kind, "data-label": title }, inside) };
    });
    return {
      node: el("tr", { role: "row" }, ...cells.map(({ node }) => node)),
      update(row) {
        columns.forEach(({ of }, at) => (cells[at].inside ? tell(cells[at].inside, of(row)) : say(cells[at].node, of(row) ?? "")));
      },
    };
  });
}

const operations = tableOf(byId("operations-list"), "Operations", [
  { title: "Time", kind: "tight", of: (row) => clockTime(row.acceptedDateTime) },
  { title: "What", kind: "tight", of: (row) => KINDS[row.kind] ?? row.kind },
  { title: "Status", state: true, of: (row) => STATUSES[row.status] ?? [row.status, "idle"] },
  { title: "Whom", kind: "name", of: (row) => whom(row) },
  { title: "Heard", kind: "tight", of: (row) => ({ customPrompt: "prompt", default: "default" })[row.source] },
  { title: "First packet", kind: "number", of: (row) => (row.firstPacketLatencyMs == null ? "" : millis(row.firstPacketLatencyMs)) },
  { title: "Result", kind: "words", of: (row) => resultOf(row) },
]);

function whom(row) {
  const person = state.rows.get(`participant/${row.participant}`);
  return person ? nameOf(person) : `Call ${shortId(row.call)}`;
}

function resultOf({ result, reason, clientContext }) {
  const words = reason ? `${reason.cause}: ${reason.message}` : result && (result.code !== 200 || result.subcode) ? `${result.code}/${result.subcode} ${result.message}` : null;
  return [words, clientContext && `“${clientContext}”`].filter(Boolean).join(" · ");
}

function showOperations() {
  const all = rowsOf("operation/").sort((one, other) => Date.parse(other.acceptedDateTime) - Date.parse(one.acceptedDateTime));
  operations.show(all.map((row) => [row.id, row]));
  byId("operations-empty").hidden = all.length > 0;
  byId("operations-list").hidden = !all.length;
  say(byId("operations-count"), all.length ? `the last ${all.length}` : "");
}

const prompts = tableOf(byId("prompts-list"), "Prompts", [
  { title: "Recording", kind: "address", of: ({ row }) => row.uri ?? "Built-in default music" },
  { title: "State", state: true, of: ({ row }) => (row.isReady ? ["Ready", "good"] : ["On its way", "warn"]) },
  { title: "Holds", kind: "number", of: ({ row }) => count(row.holds) },
  { title: "Length", kind: "number", of: ({ row }) => (row.seconds == null ? "" : `${row.seconds.toFixed(1)} s`) },
  { title: "Gain", kind: "number", of: ({ row }) => (row.gainDb == null ? "" : decibels(row.gainDb)) },
  { title: "Format", kind: "words", of: ({ row }) => row.format },
]);

function showPrompts() {
  const all = [...state.rows].filter(([name]) => name.startsWith("prompt/"));
  prompts.show(all.map(([name, row]) => [name, { row }]));
  say(byId("prompts-count"), all.length > 1 ? count(all.length) : "");
}

let graphs = [];

function makeGraphs({ latenessMs, gapsMs }) {
  graphs = [
    new Heat({ title: "Tick lateness", about: "how late senders woke for a slot", bounds: latenessMs, late: 5, labels: [0.05, 0.2, 1, 5, 20], of: (beat) => beat.lateness }),
    new Heat({ title: "Packet gaps", about: "the longest time since a leg’s packet before; 20 ms is right", bounds: gapsMs, late: 25, labels: [20.2, 21, 25, 40, 200], of: (beat) => beat.gaps }),
  ];
  byId("graphs").replaceChildren(...graphs.map((graph) => graph.node));
}

function showGraphs() {
  for (const graph of graphs) graph.show(state.beats);
  say(byId("sending-span"), `the whole engine, the last ${state.beats.length < 120 ? `${state.beats.length} s` : `${Math.round(state.beats.length / 60)} min`}`);
}

// One participant.

const detail = makeDetail();

function makeDetail() {
  const title = el("h2");
  const where = chip();
  const back = el("a", { href: "#calls", class: "back" }, "Back to the calls");
  const facts = new Facts({ class: "facts" });
  const reportTitle = el("span");
  const reportHead = el("h3", {}, reportTitle, el("span", { class: "hint" }, "as the sender told last"));
  const report = new Facts({ class: "report" });
  const reason = el("p", { class: "reason" });

  const uri = el("input", { id: "hold-uri", type: "text", inputmode: "url", spellcheck: "false", autocomplete: "off", autocapitalize: "none", placeholder: "Empty: default music", "aria-describedby": "hold-problem" });
  const start = el("button", { type: "submit", class: "main" });
  const stop = el("button", { type: "button", onclick: () => stopHold(state.chosen) }, "Stop the hold");
  const problem = el("p", { class: "problem", id: "hold-problem", role: "alert" });
  const form = el("form", { "aria-label": "Hold", onsubmit: (event) => { event.preventDefault(); startHold(state.chosen, uri.value.trim()); } },
    el("h3", {}, "Hold"), el("label", { for: "hold-uri" }, "Prompt"), el("div", { class: "field" }, uri), el("div", { class: "actions" }, start, stop), problem);

  const listen = el("button", { type: "button", onclick: () => toggleListening() }, "Listen in");
  const listenProblem = el("p", { class: "problem", role: "alert" });
  const bar = el("div");
  const meter = el("div", { class: "meter", role: "meter", "aria-label": "Level", "aria-valuemin": FLOOR_DB, "aria-valuemax": "0", hidden: true }, bar);
  const scale = el("div", { class: "meter-scale", "aria-hidden": "true", hidden: true }, ...["−60 dB", "−40", "−20", "0"].map((text) => el("span", {}, text)));
  const heard = new Facts({ class: "report", id: "heard" });
  const listening = el("div", {}, el("h3", {}, "Listen in"), el("p", { class: "hint" }, "This browser gets the very packets that the participant is sent, at the same time."),
    el("div", { class: "actions" }, listen), meter, scale, heard.node, listenProblem);

  byId("detail-body").append(el("div", { class: "detail-head" }, title, where, back), facts.node, form, reportHead, report.node, reason, listening);
  return { title, where, facts, reportHead, reportTitle, report, reason, uri, start, stop, problem, listen, listenProblem, bar, meter, scale, heard };
}

function showDetail() {
  const person = state.rows.get(`participant/${state.chosen}`);
  byId("detail-empty").hidden = Boolean(person);
  byId("detail-body").hidden = !person;
  if (!person) {
    endListening();
    return;
  }
  const held = person.state !== "none";
  const { leg, report } = person;
  say(detail.title, nameOf(person));
  tell(detail.where, stateOf(person));
  detail.facts.show([
    ["Id", person.id],
    ["Call", person.call],
    ["Sent to", leg && leg.remoteAddress],
    ["Sent from", leg && leg.localAddress],
    ["Stream", leg && `${leg.codec}, payload type ${leg.payloadType}, SSRC ${leg.ssrc}`],
    ["Hears", held ? hears(person) : null],
    ["Asked for", held ? person.prompt : null],
    ["Since", held ? `${clockTime(person.since)}, for ${sinceOf(person)}` : null],
    ["Muted", person.isMuted ? "yes" : null],
  ]);
  say(detail.start, held ? "Change the music" : "Put on hold");
  detail.start.disabled = leg?.direction !== "sendOnly";
  detail.stop.hidden = !held;
  detail.reportHead.hidden = !report;
  say(detail.reportTitle, held ? "This hold" : `The last hold: ${ENDINGS[person.endedBy] ?? person.endedBy ?? ""}`);
  detail.report.show(report ? reportFacts(report) : []);
  detail.reason.hidden = !report?.reason;
  say(detail.reason, report?.reason ? `${report.reason.cause}: ${report.reason.message}` : "");
  detail.listen.disabled = !leg && !listener;
}

function reportFacts(report) {
  const bad = (number) => (number ? "bad" : null);
  return [
    ["Packets", count(report.packets)],
    ["Duration", duration(report.durationMs / 1000)],
    ["Late", count(report.lateTicks), report.lateTicks ? "warn" : null],
    ["Left out", count(report.skippedTicks), bad(report.skippedTicks)],
    ["Without music", count(report.starvedTicks), bad(report.starvedTicks)],
    ["Send errors", count(report.sendErrors), bad(report.sendErrors)],
    ["Longest gap", millis(report.longestGapMs), report.longestGapMs > 40 ? "warn" : null],
    ["Default music", millis(report.defaultMusicMs)],
    ["Lost, as told", report.packetsLost == null ? null : count(report.packetsLost), bad(report.packetsLost > 0)],
    ["Jitter, as told", report.jitterMs == null ? null : millis(report.jitterMs)],
    ["Round trip", report.roundTripMs == null ? null : millis(report.roundTripMs)],
  ];
}

function chooseParticipant(id) {
  if (state.chosen !== id) {
    endListening();
    say(detail.problem, "");
    say(detail.listenProblem, "");
    detail.uri.value = "";
  }
  state.chosen = id;
  showCalls();
  showDetail();
  // On a narrow screen it stands below the calls.
  if (matchMedia("(max-width: 1080px)").matches) {
    byId("detail").scrollIntoView();
    byId("detail").focus({ preventScroll: true });
  }
}

// By hand.

async function holdOrStop(id) {
  const person = state.rows.get(`participant/${id}`);
  if (person) await (person.state === "none" ? startHold(id, "") : stopHold(id));
}

async function startHold(id, uri) {
  const body = uri ? { customPrompt: { "@odata.type": "#microsoft.graph.mediaPrompt", mediaInfo: { "@odata.type": "#microsoft.graph.mediaInfo", uri } } } : {};
  await byHand(id, "startHoldMusic", body, "The hold starts");
}

async function stopHold(id) {
  await byHand(id, "stopHoldMusic", {}, "The hold has stopped");
}

async function byHand(id, action, body, done) {
  const person = state.rows.get(`participant/${id}`);
  if (!person) return;
  notice("");
  say(detail.problem, "");
  try {
    await ask("POST", `${pathOf(person.call, id)}/${action}`, body);
    announce(`${done}: ${nameOf(person)}`);
    if (state.chosen === id) detail.uri.value = "";
  } catch (error) {
    if (error.status === 401) return signOut(error.message);
    if (state.chosen === id) say(detail.problem, error.message);
    else notice(error.message);
  }
}

/** One line above everything, for what concerns no place. */
function notice(words, tone = "warn") {
  const node = byId("notice");
  say(node, words);
  mark(node, "data-tone", tone);
  node.hidden = !words;
}

// Listening in.

let listener = null;

/** How often the level is told in numbers; it is drawn with each picture. */
const METER_MS = 250;

function toggleListening() {
  if (listener) return endListening();
  const person = state.rows.get(`participant/${state.chosen}`);
  if (!person) return;
  say(detail.listenProblem, "");
  say(detail.listen, "Stop listening");
  detail.meter.hidden = detail.scale.hidden = false;
  detail.heard.show([["Connection", "connecting"]]);
  let told = 0;
  listener = new Listener(person.call, person.id, {
    level(db) {
      detail.bar.style.clipPath = `inset(0 ${(db / FLOOR_DB) * 100}% 0 0)`;
      if (performance.now() < told + METER_MS) return;
      told = performance.now();
      mark(detail.meter, "aria-valuenow", Math.round(db));
      mark(detail.meter, "aria-valuetext", `${Math.round(db)} dB`);
    },
    figures(now) {
      detail.heard.show([
        ["Connection", now.state],
        ["Codec", now.codec],
        ["Packets a second", now.perSecond == null ? "–" : now.perSecond.toFixed(1)],
        ["Received", count(now.received)],
        ["Lost", count(now.lost), now.lost > 0 ? "bad" : null],
        ["Jitter", millis(now.jitterMs)],
        ["Concealed", percent(now.concealed), now.concealed > 0.005 ? "warn" : null],
        ["Buffered", now.buffered == null ? "–" : millis(now.buffered)],
      ]);
    },
    ended(message) {
      listener = null;
      say(detail.listen, "Listen in");
      say(detail.listenProblem, message ?? "");
      detail.bar.style.clipPath = "";
      detail.meter.hidden = detail.scale.hidden = true;
      detail.heard.show([]);
    },
  });
  listener.begin();
}

function endListening() {
  listener?.end();
}
