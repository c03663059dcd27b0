"""A bot that signs in as at Entra ID: msgraph-sdk sends what an issuer signed, and the engine believes that issuer's keys."""

import asyncio
import json
import os
import time
import urllib.parse
import urllib.request

from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.communications.calls.item.participants.item.start_hold_music.start_hold_music_post_request_body import (
    StartHoldMusicPostRequestBody,
)
from msgraph.generated.communications.calls.item.participants.item.stop_hold_music.stop_hold_music_post_request_body import (
    StopHoldMusicPostRequestBody,
)
from msgraph.generated.models.call import Call
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.participant import Participant

from callback import Callback
from steps import Steps, equal

ENGINE, ISSUER = os.environ["STAGE_ENGINE"], os.environ["STAGE_ISSUER"]
PARTICIPANT, TENANT_ID = os.environ["STAGE_PARTICIPANT"], os.environ["STAGE_TENANT_ID"]
SCOPE = f"{os.environ['STAGE_AUDIENCE']}/.default"
ALICE, BOB = "8f3c9a4e-0f0b-4a57-9d0e-a11ce0000001", "8f3c9a4e-0f0b-4a57-9d0e-b0b000000002"

step = Steps()


def signed_in(app, scope=SCOPE, forged="", **claims):
    """A token by client credentials, with claims that this test chooses."""
    form = {"grant_type": "client_credentials", "client_id": app, "scope": scope, "client_secret": json.dumps(claims)}
    if forged:
        form["forged"] = forged
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{ISSUER}/{TENANT_ID}/oauth2/v2.0/token", body) as answer:
        return json.load(answer)["access_token"]


class FixedToken(AccessTokenProvider):
    def __init__(self, token):
        self.token = token

    async def get_authorization_token(self, uri, additional_authentication_context={}):
        return self.token

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator([])


def calls(token):
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(FixedToken(token)))
    adapter.base_url = f"{ENGINE}/v1.0"
    return GraphServiceClient(request_adapter=adapter).communications.calls


async def refused(request, status, code, words):
    try:
        await request
    except ODataError as error:
        equal((error.response_status_code, error.error.code), (status, code), "the error")
        if words not in error.error.message:
            raise AssertionError(f"the message has not {words!r}: {error.error.message}")
        return error.error.message
    raise AssertionError("it was not refused")


async def main():
    callback = Callback(ENGINE, ALICE, TENANT_ID)
    alice = calls(signed_in(ALICE))

    with step("an application of the tenant signs in and creates a call") as seen:
        made = await alice.post(Call(callback_uri=callback.url))
        seen("role Calls.JoinGroupCall.All")
    call = alice.by_call_id(made.id)
    with step("it holds a participant") as seen:
        leg = {"rtp": {"address": PARTICIPANT, "codec": "opus", "payloadType": 111}}
        who = await call.participants.post(Participant(additional_data={"mediaLeg": leg}))
        participant = call.participants.by_participant_id(who.id)
        await participant.start_hold_music.post(StartHoldMusicPostRequestBody(client_context="signed-in"))
        told = callback.operation_ended("signed-in")
        equal(told["resourceData"]["status"], "completed", "status")
        seen("the notification is signed for that application and tenant")
    with step("another application does not get at that call") as seen:
        bob = calls(signed_in(BOB)).by_call_id(made.id)
        await refused(bob.get(), 403, "7505", made.id)
        await refused(bob.delete(), 403, "7505", made.id)
        seen("403 7505")
    with step("a token without the role is refused, and the message names the role") as seen:
        for roles in (None, [], ["Calls.AccessMedia.All"]):
            await refused(calls(signed_in(ALICE, roles=roles)).get(), 403, "7504", "Calls.JoinGroupCallAsGuest.All")
        seen("403 7504")
    with step("the spellings of the documentation are as good") as seen:
        for role in ("Calls.JoinGroupCallAsGuest.All", "Calls.JoinGroupCallsasGuest.All", "Calls.JoinGroupCalls.All"):
            await calls(signed_in(ALICE, roles=[role])).get()
        seen("three more")
    with step("an expired, a future, a foreign and a forged token are refused") as seen:
        now, unauthenticated = int(time.time()), "InvalidAuthenticationToken"
        await refused(calls(signed_in(ALICE, exp=now - 3600)).get(), 401, unauthenticated, "expired")
        await refused(calls(signed_in(ALICE, nbf=now + 3600)).get(), 401, unauthenticated, "not good before")
        await refused(calls(signed_in(ALICE, scope="https://vault.azure.net/.default")).get(), 401, unauthenticated, "'aud'")
        await refused(calls(signed_in(ALICE, iss="https://sts.example/")).get(), 401, unauthenticated, "sts.example")
        await refused(calls(signed_in(ALICE, forged="yes")).get(), 401, unauthenticated, "signature")
        seen("401, each with its reason")
    with step("a new key of the issuer is believed at once") as seen:
        with urllib.request.urlopen(f"{ISSUER}/rotate", b""):
            pass
        equal((await calls(signed_in(ALICE)).by_call_id(made.id).get()).id, made.id, "id")
        seen("its kid was unknown, so the keys were asked for again")
    await asyncio.sleep(1.5)  # the participant hears the music
    with step("it stops, and ends the call") as seen:
        await participant.stop_hold_music.post(StopHoldMusicPostRequestBody())
        await call.delete()
    raise SystemExit(1 if step.failed else 0)


asyncio.run(main())
