"""A WebRTC peer that nobody here wrote (aiortc: its own ICE, OpenSSL's DTLS, libsrtp, FFmpeg's Opus) is a participant: it
makes an offer, is put on hold, hears music, and hears nothing more when the hold is over or the leg is gone.

    python3 peer_aiortc.py [SECONDS]    SECONDS of listening, 5 if it is not said

By itself it has an engine of its own, which it also kills and starts again; with STAGE_ENGINE it uses that one. Prints a line for each step; the exit code is 0 if every step held.
"""

import array
import asyncio
import json
import math
import os
import pathlib
import sys
import tempfile
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

import stage
from steps import Steps, equal

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
SILENCE_DBFS = -50  # the default music is at -20 LUFS


class Api:
    def __init__(self, url):
        self.url = url

    def __call__(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/v1.0/communications/calls{path}", method=method)
        request.add_header("Authorization", f"Bearer {stage.TOKEN}")
        request.add_header("Content-Type", "application/json")
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(request, data, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None


class Browser:
    """One peer connection that wants to hear."""

    def __init__(self):
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.addTransceiver("audio", direction="recvonly")
        self.frames, self.sum, self.samples = 0, 0.0, 0
        self.ended = asyncio.Event()
        self.connection.on("track", lambda track: asyncio.ensure_future(self.listen(track)))

    async def offer(self):
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def answered(self, sdp):
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def connected(self):
        for _ in range(1000):
            if self.connection.connectionState == "connected":
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it is {self.connection.connectionState} after 10 s")

    async def listen(self, track):
        try:
            while True:
                frame = await track.recv()
                sound = array.array("h", bytes(frame.planes[0]))
                self.frames += 1
                self.sum += sum(sample * sample for sample in sound)
                self.samples += len(sound)
        except Exception:  # the library says so when a track has ended
            self.ended.set()

    def loudness(self):
        """Of what was heard since the last time, in dB of full scale."""
        mean, self.sum, self.samples = self.sum / max(self.samples, 1), 0.0, 0
        return 10 * math.log10(max(mean, 1e-9)) - 20 * math.log10(32768)

    async def stats(self):
        for entry in (await self.connection.getStats()).values():
            if entry.type == "inbound-rtp":
                return entry
        raise AssertionError("there are no statistics of what came in")


async def quiet(browser):
    """How many packets came in the second that began a moment ago."""
    await asyncio.sleep(0.2)
    before = (await browser.stats()).packetsReceived
    await asyncio.sleep(1)
    return (await browser.stats()).packetsReceived - before


async def story(step, api):
    browser = Browser()
    call = api("POST", "", {"callbackUri": "http://127.0.0.1:9/callback"})["id"]
    path = f"/{call}/participants"
    with step("an offer is answered") as saw:
        offer = await browser.offer()
        participant = api("POST", path, {"mediaLeg": {"sdp": offer}})
        path += f"/{participant['id']}"
        leg = participant.get("mediaLeg") or api("GET", f"{path}/mediaLeg")
        equal(api("GET", f"{path}/mediaLeg")["transport"]["state"], "new", "the transport")
    with step("it is put on hold before it has connected") as saw:
        operation = api("POST", f"{path}/startHoldMusic", {})
        equal(operation["status"], "running", "the operation")
    with step("ICE and DTLS connect") as saw:
        await browser.answered(leg["sdp"])
        await browser.connected()
        await asyncio.sleep(0.5)
        transport = api("GET", f"{path}/mediaLeg")["transport"]
        equal(transport["state"], "connected", "the transport")
        saw(transport["suite"])
    with step("the start is completed") as saw:
        equal(api("GET", f"/{call}/operations/{operation['id']}")["status"], "completed", "the operation")
    with step(f"it hears music for {SECONDS:g} s without a loss") as saw:
        before, _ = await browser.stats(), browser.loudness()
        await asyncio.sleep(SECONDS)
        after, loudness = await browser.stats(), browser.loudness()
        rate = (after.packetsReceived - before.packetsReceived) / (after.timestamp - before.timestamp).total_seconds()
        saw(f"{rate:.1f} packets/s", f"{after.packetsLost} lost", f"{loudness:.1f} dBFS")
        assert abs(rate - 50) < 1.5, f"{rate} packets/s; expected 50"
        equal(after.packetsLost, 0, "packetsLost")
        assert loudness > SILENCE_DBFS, f"{loudness} dBFS"
    with step("its reports are believed") as saw:
        # Receiver reports come every second or so, protected by SRTCP.
        report = api("GET", f"{path}/mediaLeg")["counters"]
        equal(report.get("packetsLost"), 0, "what it reported as lost")
        saw(f"jitter {report['jitterMs']:.1f} ms")
    with step("after a stop nothing more comes"):
        api("POST", f"{path}/stopHoldMusic", {})
        equal(await quiet(browser), 0, "packets in a second")
    with step("a second hold is heard by the same keys") as saw:
        api("POST", f"{path}/startHoldMusic", {})
        came = await quiet(browser)
        saw(f"{came} packets/s")
        assert 45 <= came <= 55, f"{came} packets"
        equal((await browser.stats()).packetsLost, 0, "packetsLost")
    with step("a second peer takes the place of the first"):
        second = Browser()
        leg = api("PUT", f"{path}/mediaLeg", {"sdp": await second.offer()})
        assert 45 <= await quiet(browser) <= 55, "the first is heard until the second is connected"
        await second.answered(leg["sdp"])
        await second.connected()
        came = await quiet(second)
        assert 45 <= came <= 55, f"{came} packets came to the second"
        await browser.connection.close()
    with step("a leg that is removed closes the connection"):
        api("DELETE", f"{path}/mediaLeg")
        for _ in range(300):
            if second.connection.connectionState in ("closed", "failed", "disconnected"):
                break
            await asyncio.sleep(0.01)
        equal(second.connection.connectionState, "closed", "the connection")
        await second.connection.close()
    with step("a peer that closes ends its hold"):
        third = Browser()
        participant = api("POST", f"/{call}/participants", {"mediaLeg": {"sdp": await third.offer()}})
        path = f"/{call}/participants/{participant['id']}"
        await third.answered(api("GET", f"{path}/mediaLeg")["sdp"])
        await third.connected()
        api("POST", f"{path}/startHoldMusic", {})
        assert 45 <= await quiet(third) <= 55, "it hears music"
        await third.connection.close()
        for _ in range(300):
            if api("GET", path)["holdMusic"].get("endedBy"):
                break
            await asyncio.sleep(0.01)
        equal(api("GET", path)["holdMusic"].get("endedBy"), "bye", "what ended the hold")


async def killed(step, engine, again):
    """The engine is killed in the middle of a hold and started again: the browser hears on, and need not do anything."""
    api, browser = Api(engine.url), Browser()
    call = api("POST", "", {"callbackUri": "http://127.0.0.1:9/callback"})["id"]
    path = f"/{call}/participants"
    participant = api("POST", path, {"mediaLeg": {"sdp": await browser.offer()}})
    path += f"/{participant['id']}"
    await browser.answered(api("GET", f"{path}/mediaLeg")["sdp"])
    await browser.connected()
    api("POST", f"{path}/startHoldMusic", {})
    with step("a browser is on hold when the engine is killed"):
        assert 45 <= await quiet(browser) <= 55, "it hears music"
    engine.process.kill()
    engine.process.wait()
    engine = await asyncio.get_running_loop().run_in_executor(None, again)
    api = Api(engine.url)
    with step("it hears on by the same association when the engine is there again") as saw:
        came = await quiet(browser)
        saw(f"{came} packets/s")
        assert 45 <= came <= 55, f"{came} packets came in a second"
        browser.loudness()
        await asyncio.sleep(SECONDS)
        loudness = browser.loudness()
        saw(f"{loudness:.1f} dBFS")
        assert loudness > SILENCE_DBFS, f"{loudness} dBFS"
        equal(api("GET", f"{path}/mediaLeg")["transport"]["state"], "connected", "the transport")
        equal(browser.connection.connectionState, "connected", "the connection")
    with step("its checks are answered under the same names"):
        # aioice sends one in about 5 s, and gives up after six without an answer.
        await asyncio.sleep(12)
        equal(browser.connection.iceConnectionState, "completed", "ICE")
        equal(api("GET", f"{path}")["holdMusic"]["state"], "playing", "the hold")
    await browser.connection.close()
    return engine


def main():
    step = Steps()
    url = os.environ.get("STAGE_ENGINE")
    if url:
        asyncio.run(story(step, Api(url)))
        return step.failed
    with tempfile.TemporaryDirectory(prefix="holdmusic-webrtc-") as directory:
        def again():
            return stage.Engine(pathlib.Path(directory), *stage.ANYWHERE)

        engine = again()
        try:
            asyncio.run(story(step, Api(engine.url)))
            engine = asyncio.run(killed(step, engine, again))
        finally:
            wrong = engine.end()
            print(engine.log.read_text(), file=sys.stderr)
        with step("the engine ends as it should"):
            equal(wrong, None, "what was wrong")
    return step.failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
