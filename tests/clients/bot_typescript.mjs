// A session of a bot that uses @microsoft/msgraph-sdk: its models, its adapter, its errors. The package with the request
// builders of calls is not published, so requests are put together from the SDK's own RequestInformation. This SDK knows
// `Running` and `Completed` only, so the call asks for `statusCase: pascal`.

import {
  AllowedHostsValidator,
  BaseBearerTokenAuthenticationProvider,
  HttpMethod,
  RequestInformation,
} from "@microsoft/kiota-abstractions";
import { JsonParseNodeFactory, JsonSerializationWriterFactory } from "@microsoft/kiota-serialization-json";
import { ParseNodeFactoryRegistry, SerializationWriterFactoryRegistry } from "@microsoft/kiota-abstractions";
import { GraphRequestAdapter } from "@microsoft/msgraph-sdk";
import * as models from "@microsoft/msgraph-sdk/models/index.js";
import { createODataErrorFromDiscriminatorValue } from "@microsoft/msgraph-sdk/models/oDataErrors/index.js";
import { Callback } from "./callback.mjs";
import { Steps, equal, pause } from "./steps.mjs";

const { STAGE_ENGINE: engine, STAGE_TOKEN: token, STAGE_PROMPTS: prompts, STAGE_PARTICIPANT: address } = process.env;
const steps = new Steps();
const step = steps.step.bind(steps);
const callback = await Callback.open(engine, process.env.STAGE_APP_ID, process.env.STAGE_TENANT_ID);

const readers = new ParseNodeFactoryRegistry();
const writers = new SerializationWriterFactoryRegistry();
const json = new JsonParseNodeFactory();
readers.contentTypeAssociatedFactories.set(json.getValidContentType(), json);
const writer = new JsonSerializationWriterFactory();
writers.contentTypeAssociatedFactories.set(writer.getValidContentType(), writer);
const fixedToken = {
  getAuthorizationToken: async () => token,
  getAllowedHostsValidator: () => new AllowedHostsValidator(),
};
const adapter = new GraphRequestAdapter(new BaseBearerTokenAuthenticationProvider(fixedToken), readers, writers);
adapter.baseUrl = `${engine}/v1.0`;
const errors = { XXX: createODataErrorFromDiscriminatorValue };

function request(method, path, body, serialize) {
  const one = new RequestInformation(method, `{+baseurl}/communications/${path}`, { baseurl: adapter.baseUrl });
  one.headers.tryAdd("Accept", "application/json");
  if (body) one.setContentFromParsable(adapter, "application/json", body, serialize);
  return one;
}
const get = (path, create) => adapter.send(request(HttpMethod.GET, path), create, errors);
const post = (path, body, serialize, create) => adapter.send(request(HttpMethod.POST, path, body, serialize), create, errors);

// The body of an action has no model of its own in this package.
const serializeAction = (writer, body) => {
  if (body.customPrompt) writer.writeObjectValue("customPrompt", body.customPrompt, models.serializeMediaPrompt);
  writer.writeStringValue("clientContext", body.clientContext);
};

let call, who, started;

await step("create a call that spells status as the schema does", async () => {
  const body = {
    odataType: "#microsoft.graph.call",
    callbackUri: callback.url,
    requestedModalities: [models.ModalityObject.Audio],
    mediaConfig: { odataType: "#microsoft.graph.serviceHostedMediaConfig" },
    additionalData: { holdMusic: { statusCase: "pascal" } },
  };
  const made = await post("calls", body, models.serializeCall, models.createCallFromDiscriminatorValue);
  equal(made.state, models.CallStateObject.Established, "state");
  call = `calls/${made.id}`;
  return `state ${made.state}`;
});
await step("register a participant with its media leg", async () => {
  const leg = { rtp: { address, codec: "opus", payloadType: 111 } };
  const body = { additionalData: { mediaLeg: leg } };
  const made = await post(`${call}/participants`, body, models.serializeParticipant, models.createParticipantFromDiscriminatorValue);
  who = `${call}/participants/${made.id}`;
  return `media leg to ${address}`;
});
await step("start hold music", async () => {
  const media = { odataType: "#microsoft.graph.mediaInfo", uri: `${prompts}/music-16k.wav` };
  const customPrompt = { odataType: "#microsoft.graph.mediaPrompt", mediaInfo: media };
  const create = models.createStartHoldMusicOperationFromDiscriminatorValue;
  started = await post(`${who}/startHoldMusic`, { customPrompt, clientContext: "ts-1" }, serializeAction, create);
  equal([started.status, started.clientContext], [models.OperationStatusObject.Running, "ts-1"], "the operation");
  return `the SDK reads status as ${started.status}`;
});
await step("the notification ends the operation with the same client context", async () => {
  const { resourceData } = await callback.operationEnded("ts-1");
  equal([resourceData.id, resourceData.status], [started.id, "Completed"], "the notification");
  return "status Completed";
});
await step("the operation is completed, alone and in the list", async () => {
  const done = await get(`${call}/operations/${started.id}`, models.createCommsOperationFromDiscriminatorValue);
  equal([done.odataType, done.status], ["#microsoft.graph.startHoldMusicOperation", models.OperationStatusObject.Completed], "the operation");
  equal([done.resultInfo.code, done.resultInfo.subcode], [200, 0], "resultInfo");
  const listed = await get(`${call}/operations`, models.createCommsOperationCollectionResponseFromDiscriminatorValue);
  equal(listed.value.map((one) => [one.id, one.status]), [[started.id, models.OperationStatusObject.Completed]], "the list");
  return done.resultInfo.message;
});
await pause(1500);
await step("an unknown call is an ODataError with its code", async () => {
  const create = models.createCallFromDiscriminatorValue;
  const error = await get(`calls/${crypto.randomUUID()}`, create).then(() => null, (error) => error);
  equal([error?.responseStatusCode, error?.errorEscaped?.code], [404, "8522"], "the error");
  return error.errorEscaped.message;
});
await step("stop hold music, end the call", async () => {
  const create = models.createStopHoldMusicOperationFromDiscriminatorValue;
  const stopped = await post(`${who}/stopHoldMusic`, { clientContext: "ts-2" }, serializeAction, create);
  equal([stopped.status, stopped.clientContext], [models.OperationStatusObject.Completed, "ts-2"], "the operation");
  await adapter.sendNoResponseContent(request(HttpMethod.DELETE, call), errors);
  await callback.wait((one) => one.changeType === "deleted" && one.resourceData?.state === "terminated");
  return "the call's last notification says terminated";
});

callback.close();
process.exit(steps.failed ? 1 : 0);
