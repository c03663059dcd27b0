// A whole session of a bot that is written with @microsoft/microsoft-graph-client, over TLS: the library sends its token
// to hosts of our own only if they are named, and only over https.

import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { Client, GraphError } from "@microsoft/microsoft-graph-client";
import { decodeProtectedHeader } from "jose";
import { Callback, flipped } from "./callback.mjs";
import { Steps, equal, pause } from "./steps.mjs";

const { STAGE_ENGINE: engine, STAGE_TOKEN: token, STAGE_PROMPTS: prompts, STAGE_PARTICIPANT: address } = process.env;
const { STAGE_APP_ID: appId, STAGE_TENANT_ID: tenantId } = process.env;
const music = `${prompts}/music-16k.wav`;
const steps = new Steps();
const step = steps.step.bind(steps);

function graph(bearer) {
  return Client.init({
    baseUrl: `${engine}/`,
    defaultVersion: "v1.0",
    customHosts: new Set([new URL(engine).hostname]),
    authProvider: (done) => done(null, bearer),
  });
}

const client = graph(token);
const callback = await Callback.open(engine, appId, tenantId);

const prompt = (uri) => ({
  "@odata.type": "#microsoft.graph.mediaPrompt",
  mediaInfo: { "@odata.type": "#microsoft.graph.mediaInfo", uri },
});

const aCall = (more = {}) => ({
  "@odata.type": "#microsoft.graph.call",
  callbackUri: callback.url,
  source: {
    "@odata.type": "#microsoft.graph.participantInfo",
    identity: { "@odata.type": "#microsoft.graph.identitySet", application: { id: appId, displayName: "Bot" } },
  },
  targets: [
    {
      "@odata.type": "#microsoft.graph.invitationParticipantInfo",
      identity: { "@odata.type": "#microsoft.graph.identitySet", user: { id: randomUUID(), displayName: "Alice" } },
    },
  ],
  requestedModalities: ["audio"],
  mediaConfig: { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig", preFetchMedia: [{ uri: music }] },
  tenantId,
  ...more,
});

const aParticipant = (where) => ({ mediaLeg: { rtp: { address: where, codec: "opus", payloadType: 111 } } });

async function completed(path) {
  for (let turn = 0; turn < 200; turn += 1) {
    const operation = await client.api(path).get();
    if (!["notStarted", "running"].includes(operation.status)) return operation;
    await pause(100);
  }
  throw new Error("it is still running after 20 s");
}

async function refused(request, status, code) {
  try {
    await request;
  } catch (error) {
    if (!(error instanceof GraphError)) throw error;
    equal([error.statusCode, error.code], [status, code], "the error");
    if (!error.message || !error.requestId || !error.date) throw new Error("message, request-id or date is missing");
    return error.message;
  }
  throw new Error("it was not refused");
}

let call, calls, who, participant, started;

await step("create a call over TLS", async () => {
  const made = await client.api("/communications/calls").post(aCall());
  equal(made.state, "established", "state");
  [call, calls] = [made.id, `/communications/calls/${made.id}`];
  return `state ${made.state}`;
});
await step("register a participant with its media leg", async () => {
  const made = await client.api(`${calls}/participants`).post(aParticipant(address));
  [who, participant] = [made.id, `${calls}/participants/${made.id}`];
  return `media leg to ${address}`;
});
await step("start hold music", async () => {
  started = await client.api(`${participant}/startHoldMusic`).post({ customPrompt: prompt(music), clientContext: "js-1" });
  equal([started.status, started.clientContext], ["running", "js-1"], "the operation");
  return `status ${started.status}`;
});
await step("the notification ends the operation with the same client context", async () => {
  const { resourceData } = await callback.operationEnded("js-1");
  equal([resourceData.id, resourceData.status, resourceData.resultInfo.code], [started.id, "completed", 200], "the notification");
  return "changeType deleted";
});
await step("the operation is completed, alone and in the list", async () => {
  const done = await completed(`${calls}/operations/${started.id}`);
  equal([done.status, done.resultInfo.subcode], ["completed", 0], "the operation");
  const listed = await client.api(`${calls}/operations`).filter("status eq 'completed'").select("id,status").top(5).count().get();
  equal(listed.value.map((one) => one.id), [started.id], "the list");
  equal(listed["@odata.count"], 1, "@odata.count");
  return done.resultInfo.message;
});
await step("who is held looks as in Teams", async () => {
  const held = await client.api(participant).get();
  equal(held.mediaStreams.map((stream) => stream.direction), ["inactive"], "mediaStreams[].direction");
  return "direction inactive";
});
await pause(1500);
await step("a second participant of the call is refused", async () => {
  const other = await client.api(`${calls}/participants`).post(aParticipant("127.0.0.1:9"));
  const start = client.api(`${calls}/participants/${other.id}/startHoldMusic`).post({});
  const message = await refused(start, 409, "8519");
  if (!message.includes(who)) throw new Error(`the message does not name who is held: ${message}`);
  return "409 8519";
});
await step("a bad prompt URI is refused", async () => {
  const start = client.api(`${participant}/startHoldMusic`);
  await refused(start.post({ customPrompt: prompt("onHold.wav") }), 400, "8523");
  return "400 8523";
});
await step("an unknown call is not found", async () => {
  await refused(client.api(`/communications/calls/${randomUUID()}`).get(), 404, "8522");
  return "404 8522";
});
await step("a bad token is refused", async () => {
  await refused(graph("not-the-token").api("/communications/calls").get(), 401, "InvalidAuthenticationToken");
  return "401 InvalidAuthenticationToken";
});
await step("stop hold music by the action's full name", async () => {
  const stopped = await client.api(`${participant}/microsoft.graph.stopHoldMusic`).post({ clientContext: "js-2" });
  equal([stopped.status, stopped.resultInfo], ["completed", null], "the operation");
  return `completed at once, ${stopped.holdMusic.report.packets} packets`;
});
await step("a prompt that is no good: the music plays on, and the result says 8536", async () => {
  const body = { customPrompt: prompt(`${prompts}/there-is-none.wav`), clientContext: "js-3" };
  const { id } = await client.api(`${participant}/startHoldMusic`).post(body);
  const done = await completed(`${calls}/operations/${id}`);
  equal([done.status, done.resultInfo.code, done.resultInfo.subcode], ["completed", 200, 8536], "the operation");
  await client.api(`${participant}/stopHoldMusic`).post({});
  return done.resultInfo.message;
});
await step("mute, unmute, play a prompt, cancel, invite", async () => {
  const muted = await client.api(`${participant}/mute`).post({ clientContext: "m-1" });
  equal([muted["@odata.type"], muted.status], ["#microsoft.graph.muteParticipantOperation", "completed"], "mute");
  equal((await client.api(`${calls}/mute`).post({})).status, "completed", "mute of the bot");
  const unmuted = await client.api(`${calls}/unmute`).post({});
  equal([unmuted["@odata.type"], unmuted.status], ["#microsoft.graph.unmuteParticipantOperation", "completed"], "unmute");
  await client.api(`${calls}/playPrompt`).post({ prompts: [prompt(music)], clientContext: "p-1" });
  const cancelled = await client.api(`${calls}/cancelMediaProcessing`).post({ clientContext: "c-1" });
  equal(cancelled.status, "completed", "cancelMediaProcessing");
  equal((await callback.operationEnded("p-1")).resourceData.resultInfo.subcode, 8508, "the cancelled prompt's subcode");
  const guest = {
    "@odata.type": "#microsoft.graph.invitationParticipantInfo",
    identity: { "@odata.type": "#microsoft.graph.identitySet", user: { id: randomUUID(), displayName: "Bob" } },
  };
  const invited = await client.api(`${calls}/participants/invite`).post({ participants: [guest], clientContext: "i-1" });
  equal(invited["@odata.type"], "#microsoft.graph.inviteParticipantsOperation", "invite");
  equal((await callback.operationEnded("i-1")).resourceData.status, "completed", "the invitation's end");
});
await step("keep the call alive, end it", async () => {
  await client.api(`${calls}/keepAlive`).post({});
  await client.api(calls).delete();
  await callback.wait((one) => one.changeType === "deleted" && one.resourceData?.state === "terminated");
  return "the call's last notification says terminated";
});
await step("a token with one bit changed is refused", async () => {
  const [one] = callback.tokens;
  await callback.verify(one);
  for (const part of [1, 2]) {
    const outcome = await callback.verify(flipped(one, part)).then(() => "taken", (error) => error.code);
    equal(outcome, "ERR_JWS_SIGNATURE_VERIFICATION_FAILED", "what jose says");
  }
  return "claims and signature, jose";
});
await step("the operator makes a new key: the bot believes both", async () => {
  const [old] = callback.tokens;
  const published = async () => JSON.stringify(await (await fetch(callback.discovery.jwks_uri)).json());
  const before = await published();
  execFileSync(process.env.STAGE_BINARY, ["keys", "rotate", "--data", process.env.STAGE_DATA]);
  process.kill(Number(process.env.STAGE_PID), "SIGHUP");
  for (let turn = 0; (await published()) === before; turn += 1) {
    if (turn > 200) throw new Error("10 s after SIGHUP the keys are the same");
    await pause(50);
  }
  const made = await client.api("/communications/calls").post(aCall());
  await client.api(`/communications/calls/${made.id}`).delete();
  await callback.wait((one) => one.changeType === "deleted" && one.resourceUrl.includes(made.id));
  const kids = [old, callback.tokens.at(-1)].map((one) => decodeProtectedHeader(one).kid);
  if (kids[0] === kids[1]) throw new Error("the old key still signs");
  await callback.verify(old);
  return kids.map((kid) => `kid ${kid.slice(0, 6)}…`).join(" and ");
});
await step("every notification was signed by the published key", async () => {
  equal(callback.refused, [], "refused notifications");
  return `${callback.notifications.length} notifications, jose`;
});

callback.close();
process.exit(steps.failed ? 1 : 0);
