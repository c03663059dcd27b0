"""A WHEP client that nobody here wrote (aiortc) listens in on a participant who hears plain RTP, and hears the very payloads
that the participant is sent; then it becomes a participant's own leg by WHEP.

    python3 whep_aiortc.py [SECONDS]    SECONDS of listening, 5 if it is not said

Prints a line for each step; the exit code is 0 if every step held.
"""

import asyncio
import os
import pathlib
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import stage
from peer_aiortc import SECONDS, SILENCE_DBFS, Api, Browser, quiet
from steps import Steps, equal


class Participant:
    """A UDP port that keeps the payloads of the RTP that it is sent."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.payloads = []
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        while True:
            datagram = self.socket.recv(2000)
            if not 192 <= datagram[1] <= 223:  # RTCP on the same port (RFC 5761)
                self.payloads.append(datagram[12:])


class Listener(Browser):
    """A browser that comes by WHEP, and keeps the payloads as they come out of SRTP."""

    def __init__(self):
        super().__init__()
        self.payloads = []
        (receiver,) = self.connection.getReceivers()
        handle = receiver._handle_rtp_packet

        async def keep(packet, arrival_time_ms):
            self.payloads.append(bytes(packet.payload))
            await handle(packet, arrival_time_ms)

        receiver._handle_rtp_packet = keep

    async def begin(self, url, token):
        status, headers, answer = await http("POST", url, token, await self.offer())
        equal(status, 201, f"the status ({answer})")
        equal(headers["Content-Type"], "application/sdp", "the type of the answer")
        assert headers["ETag"].strip('"') == headers["Location"].rsplit("/", 1)[1], headers["ETag"]
        await self.answered(answer)
        await self.connected()
        return headers["Location"]

    async def over(self):
        for _ in range(300):
            if self.connection.connectionState in ("closed", "failed", "disconnected"):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it is still {self.connection.connectionState}")


async def http(method, url, token, sdp=None):
    def ask():
        request = urllib.request.Request(url, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/sdp")
        try:
            with urllib.request.urlopen(request, sdp and sdp.encode(), timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode()

    return await asyncio.get_running_loop().run_in_executor(None, ask)


def is_run_of(some, all):
    """Whether some follow each other in all without a gap."""
    return any(all[at : at + len(some)] == some for at in range(len(all) - len(some) + 1))


async def story(step, api):
    participant, listener = Participant(), Listener()
    call = api("POST", "", {"callbackUri": "http://127.0.0.1:9/callback"})["id"]
    leg = {"rtp": {"address": participant.address, "codec": "opus", "payloadType": 111}}
    path = f"/{call}/participants/" + api("POST", f"/{call}/participants", {"mediaLeg": leg})["id"]
    api("POST", f"{path}/startHoldMusic", {})
    with step("it listens in with a token of its own"):
        told = api("POST", f"{path}/listeners/token")
        session = await listener.begin(told["url"], told["token"])
        equal(api("GET", path)["holdMusic"].get("listeners"), 1, "listeners")
    with step(f"it hears music for {SECONDS:g} s without a loss") as saw:
        await asyncio.sleep(0.5)
        before, _ = await listener.stats(), listener.loudness()
        await asyncio.sleep(SECONDS)
        after, loudness = await listener.stats(), listener.loudness()
        rate = (after.packetsReceived - before.packetsReceived) / (after.timestamp - before.timestamp).total_seconds()
        saw(f"{rate:.1f} packets/s", f"{after.packetsLost} lost", f"{loudness:.1f} dBFS")
        assert abs(rate - 50) < 1.5, f"{rate} packets/s; expected 50"
        equal(after.packetsLost, 0, "packetsLost")
        assert loudness > SILENCE_DBFS, f"{loudness} dBFS"
    with step("what came out of SRTP are the very payloads of the participant") as saw:
        heard = listener.payloads[:-2]
        await asyncio.sleep(0.2)
        saw(f"{len(heard)} payloads")
        assert len(heard) > 40 * SECONDS, f"only {len(heard)}"
        assert is_run_of(heard, participant.payloads), "they are not"
    with step("it is silent with the participant and hears the next hold"):
        api("POST", f"{path}/stopHoldMusic", {})
        equal(await quiet(listener), 0, "packets in a second")
        api("POST", f"{path}/startHoldMusic", {})
        came = await quiet(listener)
        assert 45 <= came <= 55, f"{came} packets"
        equal((await listener.stats()).packetsLost, 0, "packetsLost")
    with step("DELETE ends it, and the participant hears on"):
        status, _, _ = await http("DELETE", session, told["token"])
        equal(status, 200, "the status")
        await listener.over()
        before = len(participant.payloads)
        await asyncio.sleep(0.5)
        assert len(participant.payloads) - before >= 20, "the participant hears on"
        await listener.connection.close()
    with step("a page that closes listens no more"):
        another = Listener()
        await another.begin(told["url"], stage.TOKEN)
        await another.connection.close()
        for _ in range(300):
            if not api("GET", path)["holdMusic"].get("listeners"):
                break
            await asyncio.sleep(0.01)
        equal(api("GET", path)["holdMusic"].get("listeners"), None, "listeners")
    with step("a participant's own leg comes by WHEP, and goes"):
        path = f"/{call}/participants/" + api("POST", f"/{call}/participants", {})["id"]
        told, own = api("POST", f"{path}/whep/token"), Listener()
        api("DELETE", f"{path.rsplit('/', 1)[0]}/{api('GET', f'/{call}/participants')['value'][0]['id']}")
        session = await own.begin(told["url"], told["token"])
        api("POST", f"{path}/startHoldMusic", {})
        came = await quiet(own)
        assert 45 <= came <= 55, f"{came} packets"
        equal((await http("DELETE", session, told["token"]))[0], 200, "the status")
        await own.over()
        equal(api("GET", path)["holdMusic"]["endedBy"], "removed", "what ended the hold")
        await own.connection.close()


def main():
    step = Steps()
    url = os.environ.get("STAGE_ENGINE")
    if url:
        asyncio.run(story(step, Api(url)))
        return step.failed
    with tempfile.TemporaryDirectory(prefix="holdmusic-whep-") as directory:
        engine = stage.Engine(pathlib.Path(directory))
        try:
            asyncio.run(story(step, Api(engine.url)))
        finally:
            wrong = engine.end()
            print(engine.log.read_text(), file=sys.stderr)
        with step("the engine ends as it should"):
            equal(wrong, None, "what was wrong")
    return step.failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
