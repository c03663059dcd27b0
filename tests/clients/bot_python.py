"""A whole session of a bot that is written with Microsoft's msgraph-sdk for Python: only the base URL is ours."""

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid

import jwt
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.communications.calls.item.cancel_media_processing.cancel_media_processing_post_request_body import (
    CancelMediaProcessingPostRequestBody,
)
from msgraph.generated.communications.calls.item.mute.mute_post_request_body import MutePostRequestBody
from msgraph.generated.communications.calls.item.participants.invite.invite_post_request_body import InvitePostRequestBody
from msgraph.generated.communications.calls.item.participants.item.mute.mute_post_request_body import (
    MutePostRequestBody as MuteParticipantPostRequestBody,
)
from msgraph.generated.communications.calls.item.participants.item.start_hold_music.start_hold_music_post_request_body import (
    StartHoldMusicPostRequestBody,
)
from msgraph.generated.communications.calls.item.participants.item.stop_hold_music.stop_hold_music_post_request_body import (
    StopHoldMusicPostRequestBody,
)
from msgraph.generated.communications.calls.item.play_prompt.play_prompt_post_request_body import PlayPromptPostRequestBody
from msgraph.generated.communications.calls.item.unmute.unmute_post_request_body import UnmutePostRequestBody
from msgraph.generated.models.call import Call
from msgraph.generated.models.call_direction import CallDirection
from msgraph.generated.models.call_state import CallState
from msgraph.generated.models.identity import Identity
from msgraph.generated.models.identity_set import IdentitySet
from msgraph.generated.models.invitation_participant_info import InvitationParticipantInfo
from msgraph.generated.models.media_info import MediaInfo
from msgraph.generated.models.media_prompt import MediaPrompt
from msgraph.generated.models.modality import Modality
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.operation_status import OperationStatus
from msgraph.generated.models.participant import Participant
from msgraph.generated.models.participant_info import ParticipantInfo
from msgraph.generated.models.service_hosted_media_config import ServiceHostedMediaConfig

from callback import Callback, flipped
from steps import Steps, equal

ENGINE, TOKEN, PROMPTS = (os.environ[name] for name in ("STAGE_ENGINE", "STAGE_TOKEN", "STAGE_PROMPTS"))
PARTICIPANT, APP_ID, TENANT_ID = (os.environ[name] for name in ("STAGE_PARTICIPANT", "STAGE_APP_ID", "STAGE_TENANT_ID"))
MUSIC, NO_AUDIO = f"{PROMPTS}/music-16k.wav", f"{PROMPTS}/broken/html-page.wav"
SHORT, NOWHERE = f"{PROMPTS}/tones/tone-mulaw.wav", f"{PROMPTS}/there-is-none.wav"
HEARD_S = 1.5  # how long the participant hears the music

step = Steps()


class FixedToken(AccessTokenProvider):
    """A token that the operator gave us, for any host."""

    def __init__(self, token):
        self.token, self.hosts = token, AllowedHostsValidator([])

    async def get_authorization_token(self, uri, additional_authentication_context={}):
        return self.token

    def get_allowed_hosts_validator(self):
        return self.hosts


def graph(token=TOKEN):
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(FixedToken(token)))
    adapter.base_url = f"{ENGINE}/v1.0"
    return GraphServiceClient(request_adapter=adapter)


def prompt(uri):
    return MediaPrompt(media_info=MediaInfo(uri=uri, resource_id=str(uuid.uuid4())))


def start_body(uri, context):
    return StartHoldMusicPostRequestBody(custom_prompt=prompt(uri), client_context=context)


def someone(name):
    return IdentitySet(user=Identity(id=str(uuid.uuid4()), display_name=name))


def a_call(callback, **extension):
    """What a bot sends that calls a user, every member of it known to Graph but the last."""
    return Call(
        odata_type="#microsoft.graph.call",
        callback_uri=callback.url,
        direction=CallDirection.Outgoing,
        subject="A call of the tests",
        source=ParticipantInfo(
            odata_type="#microsoft.graph.participantInfo",
            identity=IdentitySet(application=Identity(id=APP_ID, display_name="Bot")),
        ),
        targets=[InvitationParticipantInfo(odata_type="#microsoft.graph.invitationParticipantInfo", identity=someone("Alice"))],
        requested_modalities=[Modality.Audio],
        media_config=ServiceHostedMediaConfig(pre_fetch_media=[MediaInfo(uri=MUSIC, resource_id="music")]),
        tenant_id=TENANT_ID,
        additional_data={"holdMusic": extension} if extension else {},
    )


def a_participant(address):
    """A participant is registered with its media leg: an extension next to Graph's members."""
    leg = {"rtp": {"address": address, "codec": "opus", "payloadType": 111}}
    info = ParticipantInfo(odata_type="#microsoft.graph.participantInfo", identity=someone("Alice"))
    return Participant(info=info, additional_data={"mediaLeg": leg})


async def completed(call, operation):
    """The operation as it is when it is no longer under way, asked for as a client without a callback does."""
    for _ in range(200):
        found = await call.operations.by_comms_operation_id(operation.id).get()
        if found.status not in (OperationStatus.NotStarted, OperationStatus.Running):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"still {found.status} after 20 s")


async def refused(request, status, code):
    """Awaits a request that must fail, and gives back the error's message."""
    try:
        answer = await request
    except ODataError as error:
        equal((error.response_status_code, error.error.code), (status, code), "the error")
        assert error.error.message, "the error has no message"
        assert error.error.inner_error.request_id, "the error has no request-id"
        return error.error.message
    raise AssertionError(f"it was not refused, but answered {answer}")


def not_verified(callback, token, reason):
    try:
        callback.verify(token)
    except reason:
        return
    raise AssertionError(f"it was believed; expected {reason.__name__}")


def plain(method, path, body=None):
    """A request without any SDK, its body as it is."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(ENGINE + path, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status, json.loads(answer.read() or "null")


def result(operation):
    return operation.result_info.code, operation.result_info.subcode


async def main():
    callback = Callback(ENGINE, APP_ID, TENANT_ID)
    client = graph()
    calls = client.communications.calls

    with step("create a call") as seen:
        made = await calls.post(a_call(callback))
        equal(made.state, CallState.Established, "state")
        equal(made.callback_uri, callback.url, "callbackUri")
        seen(f"state {made.state.value}")
    call = calls.by_call_id(made.id)
    with step("read the call") as seen:
        read = await call.get()
        equal((read.id, read.subject), (made.id, "A call of the tests"), "the call")
        assert made.id in [one.id for one in (await calls.get()).value], "the list has not the call"
        seen("alone and in the list")
    with step("register a participant with its media leg") as seen:
        registered = await call.participants.post(a_participant(PARTICIPANT))
        assert registered.additional_data["mediaLeg"], "the answer has no mediaLeg"
        seen(f"media leg to {PARTICIPANT}")
    participant = call.participants.by_participant_id(registered.id)

    with step("start hold music") as seen:
        started = await participant.start_hold_music.post(start_body(MUSIC, "python-1"))
        equal(started.odata_type, "#microsoft.graph.startHoldMusicOperation", "@odata.type")
        equal(started.client_context, "python-1", "clientContext")
        equal(started.status, OperationStatus.Running, "status")
        seen(f"status {started.status.value}")
    with step("the notification ends the operation with the same client context") as seen:
        told = callback.operation_ended("python-1")
        equal(told["resourceData"]["status"], "completed", "status")
        equal(told["resourceData"]["id"], started.id, "id")
        equal(told["resourceData"]["resultInfo"]["code"], 200, "resultInfo.code")
        seen(told["resourceUrl"].split("/", 1)[0] or told["resourceUrl"].split("/", 2)[1], "changeType deleted")
    with step("the operation is completed, alone and in the list") as seen:
        done = await completed(call, started)
        equal((done.status, result(done)), (OperationStatus.Completed, (200, 0)), "the operation")
        listed = {one.id: one for one in (await call.operations.get()).value}
        equal(type(listed[started.id]).__name__, "StartHoldMusicOperation", "its class in the list")
        seen(done.result_info.message, f"first packet after {done.additional_data['holdMusic']['firstPacketLatencyMs']} ms")
    with step("the same request again is the same operation") as seen:
        body = start_body(MUSIC, "python-1")
        # The prompt's name has to be the same for it.
        body.custom_prompt.media_info.resource_id = None
        first = await participant.start_hold_music.post(body)
        again = await participant.start_hold_music.post(body)
        equal(again.id, first.id, "id")
    with step("who is held looks as in Teams") as seen:
        held = await participant.get()
        directions = [str(stream.direction.value) for stream in held.media_streams]
        equal(directions, ["inactive"], "mediaStreams[].direction")
        equal(held.additional_data["holdMusic"]["state"], "playing", "holdMusic.state")
        seen("direction inactive, holdMusic.state playing")
    await asyncio.sleep(HEARD_S)

    with step("a second participant of the call is refused") as seen:
        other = await call.participants.post(a_participant("127.0.0.1:9"))
        start = call.participants.by_participant_id(other.id).start_hold_music
        message = await refused(start.post(start_body(MUSIC, "python-2")), 409, "8519")
        assert registered.id in message, f"the message does not name who is held: {message}"
        seen("409 8519")
    with step("a bad prompt URI is refused") as seen:
        await refused(participant.start_hold_music.post(start_body("onHold.wav", None)), 400, "8523")
        await refused(participant.start_hold_music.post(start_body("ftp://bot.contoso.com/onHold.wav", None)), 400, "8523")
        seen("400 8523")
    with step("an unknown call, participant and operation are not found") as seen:
        nobody = str(uuid.uuid4())
        await refused(calls.by_call_id(nobody).get(), 404, "8522")
        unknown = call.participants.by_participant_id(nobody).start_hold_music
        await refused(unknown.post(start_body(MUSIC, None)), 404, "8522")
        await refused(call.operations.by_comms_operation_id(nobody).get(), 404, "8522")
        seen("404 8522")
    with step("a bad token is refused") as seen:
        await refused(graph("not-the-token").communications.calls.get(), 401, "InvalidAuthenticationToken")
        seen("401 InvalidAuthenticationToken")

    with step("stop hold music") as seen:
        stopped = await participant.stop_hold_music.post(StopHoldMusicPostRequestBody(client_context="python-3"))
        equal((stopped.status, stopped.client_context), (OperationStatus.Completed, "python-3"), "the operation")
        report = stopped.additional_data["holdMusic"]["report"]
        assert report["packets"] >= 50, f"{report['packets']} packets in {HEARD_S} s"
        seen(f"completed at once, {report['packets']} packets")
    for uri, subcode, context in ((NO_AUDIO, 8535, "python-4"), (NOWHERE, 8536, "python-5")):
        with step(f"a prompt that is no good: the music plays on, and the result says {subcode}") as seen:
            broken = await participant.start_hold_music.post(start_body(uri, context))
            done = await completed(call, broken)
            equal((done.status, result(done)), (OperationStatus.Completed, (200, subcode)), "the operation")
            equal(callback.operation_ended(context)["resourceData"]["resultInfo"]["subcode"], subcode, "the notified subcode")
            await participant.stop_hold_music.post(StopHoldMusicPostRequestBody())
            seen(done.result_info.message)
    with step("the body that the documentation prints, trailing commas included") as seen:
        path = f"/v1.0/communications/calls/{made.id}/participants/{registered.id}"
        body = b"""{
          "customPrompt": {
            "@odata.type": "#microsoft.graph.mediaPrompt",
            "mediaInfo": { "@odata.type": "#microsoft.graph.mediaInfo", "uri": "%s", },
          },
          "clientContext": "python-6",
        }""" % MUSIC.encode()
        status, answer = plain("POST", path + "/startHoldMusic", body)
        equal((status, answer["clientContext"]), (202, "python-6"), "the answer")
        callback.operation_ended("python-6")
        equal(plain("POST", path + "/microsoft.graph.stopHoldMusic", b"{}")[0], 202, "status of the stop")
        seen("202")
    with step("a participant without a prompt hears default music") as seen:
        default = await participant.start_hold_music.post(StartHoldMusicPostRequestBody(client_context="python-7"))
        done = await completed(call, default)
        equal(done.additional_data["holdMusic"]["source"], "default", "holdMusic.source")
        await participant.stop_hold_music.post(StopHoldMusicPostRequestBody())
        seen(done.result_info.message)

    await other_actions(call, participant, registered, callback)

    with step("keep the call alive") as seen:
        await call.keep_alive.post()
    with step("remove a participant, end the call") as seen:
        await call.participants.by_participant_id(other.id).delete()
        await refused(call.participants.by_participant_id(other.id).get(), 404, "8522")
        await call.delete()
        callback.wait(lambda one: one["changeType"] == "deleted" and one["resourceData"].get("state") == "terminated")
        seen("the call's last notification says terminated")

    with step("statusCase pascal: Running and Completed, as the schema spells them") as seen:
        made = await calls.post(a_call(callback, statusCase="pascal"))
        call = calls.by_call_id(made.id)
        registered = await call.participants.post(a_participant("127.0.0.1:9"))
        path = f"/v1.0/communications/calls/{made.id}"
        _, answer = plain("POST", f"{path}/participants/{registered.id}/startHoldMusic", b'{"clientContext": "python-8"}')
        equal(answer["status"], "Running", "status")
        equal(callback.operation_ended("python-8")["resourceData"]["status"], "Completed", "the notified status")
        sdk = await call.operations.by_comms_operation_id(answer["id"]).get()
        equal(sdk.status, OperationStatus.Completed, "status for the SDK")
        await call.delete()
        seen("the SDK reads both spellings")

    with step("a token with one bit changed, or for another bot, is refused") as seen:
        token = callback.tokens[0]
        callback.verify(token)
        for wrong in (flipped(token, 1), flipped(token, 2)):
            not_verified(callback, wrong, jwt.InvalidSignatureError)
        callback.app_id = "another-bot"
        not_verified(callback, token, jwt.InvalidAudienceError)
        callback.app_id = APP_ID
        seen("claims, signature, audience, PyJWT")
    with step("every notification was signed by the published key") as seen:
        equal(callback.refused, [], "refused notifications")
        messages = [one["message id"] for one in callback.notifications]
        equal(len(set(messages)), len(messages), "the number of different message ids")
        seen(f"{len(messages)} notifications, PyJWT")
    await keys_change(calls, callback)
    raise SystemExit(1 if step.failed else 0)


async def keys_change(calls, callback):
    """What an operator's rotation of keys means for a bot, without any doing of the bot's."""
    old = callback.tokens[-1]

    async def a_notified_call():
        made = await calls.post(a_call(callback))
        await calls.by_call_id(made.id).delete()
        callback.wait(lambda one: one["changeType"] == "deleted" and made.id in one["resourceUrl"])
        return callback.tokens[-1]

    with step("the operator makes a new key: the bot believes both") as seen:
        rotate()
        new = await a_notified_call()
        assert kid(new) != kid(old), "the old key still signs"
        callback.verify(old)
        seen(f"kid {kid(old)[:6]}… and {kid(new)[:6]}…")
    with step("the operator withdraws the old keys: their tokens are refused") as seen:
        rotate("--withdraw")
        newest = await a_notified_call()
        callback.verify(newest)
        callback.forget_keys()
        not_verified(callback, old, jwt.PyJWKClientError)
        equal(callback.refused, [], "refused notifications")


def kid(token):
    return jwt.get_unverified_header(token)["kid"]


def published():
    with urllib.request.urlopen(f"{ENGINE}/v1/keys") as answer:
        return [key["kid"] for key in json.load(answer)["keys"]]


def rotate(*flags):
    """As an operator: a new key, then SIGHUP to the engine, until it publishes another set."""
    before = published()
    subprocess.run([os.environ["STAGE_BINARY"], "keys", "rotate", "--data", os.environ["STAGE_DATA"], *flags], check=True, capture_output=True)
    os.kill(int(os.environ["STAGE_PID"]), signal.SIGHUP)
    deadline = time.monotonic() + 10
    while published() == before:
        if time.monotonic() > deadline:
            raise AssertionError(f"10 s after SIGHUP the keys are still {before}")
        time.sleep(0.05)


async def other_actions(call, participant, registered, callback):
    """What Graph's calls can do besides holding."""
    with step("mute a participant, mute and unmute the bot") as seen:
        for muted, type_name in (
            (await participant.mute.post(MuteParticipantPostRequestBody(client_context="m-1")), "MuteParticipantOperation"),
            (await call.mute.post(MutePostRequestBody(client_context="m-2")), "MuteParticipantOperation"),
            (await call.unmute.post(UnmutePostRequestBody(client_context="m-3")), "UnmuteParticipantOperation"),
        ):
            equal((type(muted).__name__, muted.status), (type_name, OperationStatus.Completed), "the operation")
        equal((await participant.get()).is_muted, True, "isMuted")
        seen("completed")
    with step("play a prompt") as seen:
        playing = await call.play_prompt.post(PlayPromptPostRequestBody(prompts=[prompt(SHORT)], client_context="p-1"))
        equal(playing.odata_type, "#microsoft.graph.playPromptOperation", "@odata.type")
        told = callback.operation_ended("p-1")["resourceData"]
        equal((told["status"], told["resultInfo"]["code"]), ("completed", 200), "the notified end")
        seen(f"{playing.status.value}, then {told['status']}")
    with step("cancel what is playing") as seen:
        playing = await call.play_prompt.post(PlayPromptPostRequestBody(prompts=[prompt(MUSIC)], client_context="p-2"))
        cancelled = await call.cancel_media_processing.post(CancelMediaProcessingPostRequestBody(client_context="c-1"))
        equal(cancelled.status, OperationStatus.Completed, "status")
        told = callback.operation_ended("p-2")["resourceData"]
        equal((told["status"], told["resultInfo"]["code"], told["resultInfo"]["subcode"]), ("failed", 400, 8508), "the end")
        seen("the prompt's operation failed with 8508")
    with step("invite somebody") as seen:
        guest = InvitationParticipantInfo(odata_type="#microsoft.graph.invitationParticipantInfo", identity=someone("Bob"))
        invited = await call.participants.invite.post(InvitePostRequestBody(participants=[guest], client_context="i-1"))
        equal(invited.odata_type, "#microsoft.graph.inviteParticipantsOperation", "@odata.type")
        equal(callback.operation_ended("i-1")["resourceData"]["status"], "completed", "the notified status")
        names = [one.info.identity.user.display_name for one in (await call.participants.get()).value]
        assert "Bob" in names, f"the roster is {names}"
        seen(f"the roster is {', '.join(names)}")


asyncio.run(main())
