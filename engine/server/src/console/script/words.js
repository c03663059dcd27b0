// Values to words: numbers, times and names as people read them.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,345 */
function count(number) {
  return whole.format(Math.round(number));
}

/** 12.3K beyond four digits, for where there is little room. */
function short(number) {
  return number < 10_000 ? count(number) : compact.format(number);
}

/** Milliseconds: as many digits as mean something. */
function millis(ms) {
  if (ms == null) return "–";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 100 ? `${Math.round(ms)} ms` : `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}

/** 0:42, 12:05, 3:07:00 */
function duration(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}

function bytes(number) {
  if (number == null) return "–";
  if (number < 1024) return `${number} B`;
  return number < 1 << 20 ? `${(number / 1024).toFixed(0)} KiB` : `${(number / (1 << 20)).toFixed(1)} MiB`;
}

function decibels(number) {
  if (number == null) return "–";
  const sign = Math.abs(number) < 0.05 ? "" : number > 0 ? "+" : "−";
  return `${sign}${Math.abs(number).toFixed(1)} dB`;
}

function percent(share) {
  if (share === 0) return "0 %";
  return share == null ? "–" : `${(share * 100).toFixed(share > 0 && share < 0.01 ? 2 : 1)} %`;
}

function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** The time of day, in the reader's zone. */
function clockTime(text) {
  return new Date(text).toLocaleTimeString("en-GB", { hour12: false });
}

/** The beginning of a GUID is enough to tell a hundred apart. */
function shortId(id) {
  return id.slice(0, 8);
}

/** The last piece of an address, which is what people call a recording. */
function fileName(uri) {
  if (uri == null) return "default music";
  const path = uri.split("?")[0].replace(/\/+$/, "");
  return path.slice(path.lastIndexOf("/") + 1) || uri;
}

const STATES = {
  playing: ["On hold", "good"],
  starting: ["Starting", "warn"],
  talking: ["Talking", "idle"],
  deaf: ["Hears nothing", "idle"],
  legless: ["No media leg", "idle"],
};

/** Where a participant is: a word and a tone. */
function stateOf(person) {
  if (person.state !== "none") return STATES[person.state] ?? [person.state, "warn"];
  if (!person.leg) return STATES.legless;
  return person.leg.direction === "inactive" ? STATES.deaf : STATES.talking;
}

const STATUSES = { notStarted: ["Not started", "idle"], running: ["Running", "warn"], completed: ["Completed", "good"], failed: ["Failed", "bad"] };

const KINDS = {
  startHoldMusic: "Start hold",
  stopHoldMusic: "Stop hold",
  muteParticipant: "Mute",
  unmuteParticipant: "Unmute",
  playPrompt: "Play prompts",
  cancelMediaProcessing: "Cancel prompts",
  inviteParticipants: "Invite",
};

const ENDINGS = {
  stop: "stopped",
  removed: "participant or leg removed",
  callEnded: "call ended",
  maxDuration: "longest duration reached",
  unreachable: "nobody listens at its address",
  bye: "its receiver said goodbye",
  promptFailed: "its prompt failed",
  restart: "engine restarted",
};
