// Signing in and out, and what happens when the engine tells something.

let stream = null;

function signedIn() {
  byId("sign-in").hidden = true;
  for (const id of ["console", "sections", "sign-out"]) byId(id).hidden = false;
  stream?.stop();
  stream = new Stream({ state: changed, link, over: signOut });
}

function signOut(message = "") {
  stream?.stop();
  stream = null;
  endListening();
  token.drop();
  Object.assign(state, { rows: new Map(), beats: [], chosen: null });
  for (const id of ["console", "sections", "sign-out"]) byId(id).hidden = true;
  byId("sign-in").hidden = false;
  say(byId("sign-in-problem"), message);
  link("Signed out", "idle", false);
  byId("token").focus();
}

let linked = "";

function link(words, tone, isLive, title = "") {
  const node = byId("connection");
  // A screen reader hears of each change once, and of no seconds.
  const kind = words.replace(/ (in|for) \d.*/, "");
  if (kind !== linked) announce(kind);
  linked = kind;
  tell(node, [words, tone]);
  mark(node, "data-live", isLive ? "true" : null);
  mark(node, "title", title || null);
}

/** The stream begins with everything, and goes on with what is different. */
function changed({ set, gone, engine }, isFirst) {
  if (isFirst) {
    state.rows = new Map();
    state.beats = [];
  }
  for (const [name, row] of Object.entries(set)) state.rows.set(name, row);
  for (const name of gone) state.rows.delete(name);
  state.beats = [...state.beats, ...engine.beats].slice(-SPAN);
  if (engine.first) {
    say(byId("version"), engine.first.version);
    if (!graphs.length) makeGraphs(engine.first);
  }
  notReady(engine.notReady);
  show();
}

let wasNotReady = false;

function notReady(reason) {
  if (reason) notice(`The engine takes nothing new: ${reason}.`, "bad");
  else if (wasNotReady) notice("");
  wasNotReady = Boolean(reason);
}

function show() {
  showFigures();
  showCalls();
  showDetail();
  showOperations();
  showPrompts();
  showGraphs();
}

function theme() {
  const kept = localStorage.getItem("holdmusic.theme");
  const choose = (value) => {
    mark(document.documentElement, "data-theme", value === "auto" ? null : value);
    for (const graph of graphs) graph.draw();
  };
  for (const input of document.querySelectorAll("input[name=theme]")) {
    input.checked = input.value === (kept ?? "auto");
    input.addEventListener("change", () => {
      localStorage.setItem("holdmusic.theme", input.value);
      choose(input.value);
    });
  }
  choose(kept ?? "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => graphs.forEach((graph) => graph.draw()));
}

/** Up and down lead from one participant to the next. */
function arrows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest?.(".person");
  if (!step || !row) return;
  const all = [...byId("calls-list").querySelectorAll(".person")];
  const next = all[all.indexOf(row) + step];
  if (!next) return;
  event.preventDefault();
  next.querySelectorAll("button")[event.target.classList.contains("act") ? 1 : 0].focus();
}

byId("figures").replaceWith(figures.node);
mark(figures.node, "aria-label", "At present");
figures.node.id = "figures";
theme();
checkPrompt();
byId("calls-filter").addEventListener("input", showCalls);
byId("calls-held").addEventListener("change", showCalls);
byId("calls-list").addEventListener("keydown", arrows);
byId("sign-out").addEventListener("click", () => signOut());
byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  // What a header cannot carry is no token.
  if (!/^[!-~]+$/.test(given)) return say(byId("sign-in-problem"), "A token has letters, digits and signs of ASCII, without spaces.");
  token.keep(given);
  byId("token").value = "";
  say(byId("sign-in-problem"), "");
  signedIn();
});
addEventListener("pagehide", () => endListening());
if (token.get()) signedIn();
else signOut();
