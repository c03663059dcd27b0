"""Receivers that others made. Each has `hear(bot, directory)`, which gives the file of what it heard."""

import base64
import contextlib
import datetime
import os
import re
import select
import signal
import socket
import subprocess
import time

import stage

SECONDS = 4
TELEPHONE, WIDE = (400, 3_300), (150, 3_300)


class Deaf(Exception):
    """A receiver heard nothing, or ended."""


def offer(port, rtpmap, payload_type, transport="RTP/AVP", attributes=(), fmtp=None):
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    lines += [f"m=audio {port} {transport} {payload_type}", f"a=rtpmap:{payload_type} {rtpmap}", "a=recvonly", *attributes]
    return "".join(f"{line}\r\n" for line in lines)


def crypto(suite):
    """A line with a key of our own: nobody sends with it, but SDES wants one from both sides."""
    length = {"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44}.get(suite, 30)
    return f"a=crypto:1 {suite} inline:{base64.b64encode(os.urandom(length)).decode()}"


def value(sdp, pattern):
    found = re.search(pattern, sdp, re.MULTILINE)
    if not found:
        raise Deaf(f"the answer has no {pattern}:\n{sdp}")
    return found.group(1)


class Ear:
    """What is common to those that are given an answer and then listen at a port."""

    band, wrong = WIDE, None

    def __init__(self, rtpmap, payload_type, suite=None, first=None, packet_ms=20):
        self.rtpmap, self.payload_type, self.suite, self.first = rtpmap, payload_type, suite, first
        self.packet_ms = packet_ms
        self.name, rate = rtpmap.split("/")[:2]
        self.clock = int(rate)
        self.band = TELEPHONE if self.name in ("PCMU", "PCMA") else WIDE

    def hear(self, bot, directory):
        port = stage.free_udp_port()
        transport = "RTP/SAVP" if self.suite else "RTP/AVP"
        attributes = [crypto(self.suite)] if self.suite else []
        if self.packet_ms < 20:
            attributes.append(f"a=maxptime:{self.packet_ms}")
        answer = bot.join(offer(port, self.rtpmap, self.payload_type, transport, attributes))
        if int(value(answer, r"^a=ptime:(\d+)")) != self.packet_ms:
            raise Deaf(f"the answer has packets of another length:\n{answer}")
        sound = directory / "heard.wav"
        log = directory / "log"
        with open(log, "w") as words:
            process = subprocess.Popen(self.command(answer, port, sound, directory), stdout=words, stderr=words)
        try:
            deadline = time.monotonic() + stage.PATIENCE
            while not stage.udp_port_is_taken(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Deaf(f"it did not begin: {log.read_text()[-500:]}")
                time.sleep(0.02)
            bot.hold(self.state(answer))
            try:
                process.wait(SECONDS + stage.PATIENCE)
            except subprocess.TimeoutExpired as error:
                raise Deaf(f"it heard nothing: {log.read_text()[-500:]}") from error
            bot.let_go()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.wrong = self.complaint(log.read_text())
        if not sound.exists():
            raise Deaf(f"it wrote nothing: {log.read_text()[-500:]}")
        return sound


    def state(self, answer):
        """The numbers to begin with, if any are wanted."""
        if self.first is None:
            return None
        now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
        ssrc = int(value(answer, r"^a=ssrc:(\d+)"))
        return {"ssrc": ssrc, "sequenceNumber": self.first, "timestamp": 4_294_900_000, "at": now}


class Ffmpeg(Ear):
    program = "ffmpeg"

    def command(self, answer, port, sound, directory):
        described = re.sub(r"^m=audio \d+", f"m=audio {port}", answer, flags=re.MULTILINE)
        described = re.sub(r"^a=(rtcp:|sendonly).*\r\n", "", described, flags=re.MULTILINE)
        (directory / "answer.sdp").write_text(described)
        listen = ["-protocol_whitelist", "file,udp,rtp,srtp", "-analyzeduration", "0", "-i", directory / "answer.sdp"]
        return ["ffmpeg", "-nostdin", "-loglevel", "warning", *listen, "-t", str(SECONDS), "-ac", "1", "-ar", "16000", sound]

    def complaint(self, log):
        if self.suite and self.suite.endswith("_32"):
            # It expects tags of 32 bits on SRTCP too, where RFC 4568 section 6.2 says 80: a sender report or two.
            log = log.replace("HMAC mismatch", "", 2)
        lost = re.search(r".*(missed \d+ packets|HMAC mismatch|[Rr]eplay|dropping).*", log)
        return lost and lost.group(0)


class GStreamer(Ear):
    program = "gst-launch-1.0"
    chains = {
        "opus": "rtpopusdepay ! opusdec",
        "PCMU": "rtppcmudepay ! mulawdec",
        "PCMA": "rtppcmadepay ! alawdec",
        "L16": "rtpL16depay",
    }
    ciphers = {
        "AES_CM_128_HMAC_SHA1_80": ("aes-128-icm", "hmac-sha1-80", "hmac-sha1-80"),
        "AES_CM_128_HMAC_SHA1_32": ("aes-128-icm", "hmac-sha1-32", "hmac-sha1-80"),
        "AEAD_AES_128_GCM": ("aes-128-gcm", "null", "null"),
        "AEAD_AES_256_GCM": ("aes-256-gcm", "null", "null"),
    }

    def command(self, answer, port, sound, _):
        kind = f"media=audio,clock-rate={self.clock},encoding-name={self.name.upper()},payload={self.payload_type}"
        kind += ",channels=1" if self.name == "L16" else ""
        caps, unlock = f"application/x-rtp,{kind}", ""
        if self.suite:
            key = base64.b64decode(value(answer, r"^a=crypto:1 \S+ inline:([A-Za-z0-9+/=]+)")).hex()
            ssrc = value(answer, r"^a=ssrc:(\d+)")
            cipher, tag, rtcp_tag = self.ciphers[self.suite]
            caps = f"application/x-srtp,{kind},ssrc=(uint){ssrc},roc=(uint)0,srtp-key=(buffer){key}"
            caps += f",srtp-cipher={cipher},srtp-auth={tag},srtcp-cipher={cipher},srtcp-auth={rtcp_tag}"
            unlock = "! srtpdec "
        # RTCP goes to the port above. As many packets as are wanted, and then the end.
        pipeline = f"udpsrc port={port} address=127.0.0.1 num-buffers={SECONDS * 1000 // self.packet_ms} caps={caps} {unlock}"
        pipeline += f"! rtpjitterbuffer latency=40 ! {self.chains[self.name]} ! audioconvert ! audioresample "
        pipeline += f"! audio/x-raw,rate=16000,channels=1,format=S16LE ! wavenc ! filesink location={sound}"
        return ["gst-launch-1.0", "-q", *pipeline.split()]

    def complaint(self, log):
        lost = re.search(r".*(WARN|ERROR|rror:).*", log)
        return lost and lost.group(0)


class Baresip:
    """A SIP phone that calls a bot: its INVITE is the offer, and the 200 the answer."""

    program = "baresip"
    wrong = None
    names = {"opus": "opus/48000/2", "PCMU": "pcmu/8000/1", "PCMA": "pcma/8000/1", "G722": "g722/16000/1"}

    def __init__(self, codec, encryption=None):
        self.codec, self.encryption = codec, encryption
        self.band = TELEPHONE if codec in ("PCMU", "PCMA") else WIDE

    def hear(self, bot, directory):
        phone = stage.free_udp_port()
        modules = "/usr/lib/baresip/modules"
        wanted = ["account", "g711", "g722", "opus", "l16", "srtp", "sndfile", "aubridge", "menu"]
        config = [f"module_path {modules}", *(f"module {name}.so" for name in wanted if name not in ("account", "menu"))]
        config += ["module_app account.so", "module_app menu.so", f"sip_listen 127.0.0.1:{phone}", "audio_source aubridge,one"]
        config += ["audio_player aubridge,one", f"snd_path {directory}", "audio_level no", "net_interface 127.0.0.1"]
        (directory / "config").write_text("\n".join(config) + "\n")
        encryption = f";mediaenc={self.encryption}" if self.encryption else ""
        account = f"<sip:phone@127.0.0.1:{phone}>;regint=0;audio_codecs={self.names[self.codec]}{encryption}\n"
        (directory / "accounts").write_text(account)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip:
            sip.bind(("127.0.0.1", 0))
            dial = f"/dial sip:hold@127.0.0.1:{sip.getsockname()[1]}"
            command = ["baresip", "-f", directory, "-e", dial]
            with open(directory / "log", "w") as log:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                self.serve(sip, bot, directory)
            finally:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                if process.poll() is None:
                    process.kill()
                    process.wait()
        dumps = sorted(directory.glob("dump-*-dec.wav"))
        if not dumps:
            raise Deaf(f"it wrote nothing: {(directory / 'log').read_text()[-800:]}")
        return dumps[-1]

    def serve(self, sip, bot, directory):
        invite, phone = self.receive(sip, "INVITE", directory)
        # baresip 1.0.0 plays nothing at all where the answer is sendonly, so the bot says what most say to a phone.
        answer = bot.join(invite.split("\r\n\r\n", 1)[1]).replace("a=sendonly", "a=sendrecv")
        copied = [line for line in invite.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq):", line, re.IGNORECASE)]
        to = value(invite, r"^(To:[^\r\n]*)")
        contact = f"Contact: <sip:hold@127.0.0.1:{sip.getsockname()[1]}>"
        head = ["SIP/2.0 200 OK", *copied, f"{to};tag=hold", contact, "Content-Type: application/sdp", f"Content-Length: {len(answer)}"]
        sip.sendto(("\r\n".join(head) + "\r\n\r\n" + answer).encode(), phone)
        self.receive(sip, "ACK", directory)
        bot.hold()
        # Heard for so long; a phone's clock is its own.
        time.sleep(SECONDS + 0.5)
        bot.let_go()

    @staticmethod
    def receive(sip, method, directory):
        deadline = time.monotonic() + stage.PATIENCE
        while time.monotonic() < deadline:
            if select.select([sip], [], [], 0.2)[0]:
                datagram, phone = sip.recvfrom(65_535)
                if datagram.startswith(method.encode()):
                    return datagram.decode(), phone
        raise Deaf(f"the phone sent no {method}: {(directory / 'log').read_text()[-800:]}")


class Rtpengine:
    """The box in the middle: a plain phone on one side, and us, with `transport`, on the other."""

    program = "rtpengine"
    wrong = None

    def __init__(self, rtpmap, payload_type, transport):
        self.phone, self.transport = Ffmpeg(rtpmap, payload_type), transport
        self.band = self.phone.band

    def hear(self, bot, directory):
        port, control = stage.free_udp_port(), stage.free_udp_port()
        command = ["rtpengine", "--config-file=none", "--foreground", "--table=-1", "--interface=127.0.0.1", "--log-stderr"]
        command += ["--log-level=6", f"--listen-ng=127.0.0.1:{control}", "--port-min=20000", "--port-max=20400"]
        with open(directory / "rtpengine.log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            ng = Ng(control)
            ng.ask({"command": "ping"})
            both = {"call-id": "one", "from-tag": "phone"}
            phone = offer(port, self.phone.rtpmap, self.phone.payload_type)
            wish = {"command": "offer", "sdp": phone, "transport-protocol": self.transport, "replace": ["origin"]}
            if self.transport.startswith("UDP"):
                wish |= {"ICE": "force", "rtcp-mux": ["offer"], "DTLS": "active"}
            ours = bot.join(ng.ask(both | wish)["sdp"])
            wish = {"command": "answer", "to-tag": "hold", "sdp": ours, "transport-protocol": "RTP/AVP"}
            wish |= {"ICE": "remove", "rtcp-mux": ["demux"]}
            theirs = ng.ask(both | wish)["sdp"]
            relay = Relay(self.phone, bot, theirs, port)
            return relay.hear(directory)
        except Deaf as deaf:
            raise Deaf(f"{deaf}\n{(directory / 'rtpengine.log').read_text()[-1500:]}") from deaf
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()


class Relay:
    """A phone whose answer came by way of a box."""

    def __init__(self, phone, bot, answer, port):
        self.phone, self.bot, self.answer, self.port = phone, bot, answer, port

    def hear(self, directory):
        phone, bot, answer, port = self.phone, self.bot, self.answer, self.port

        class Known:
            """The bot as the phone sees it: its offer has been answered already."""

            def join(self, _):
                return answer

            def hold(self, state=None):
                bot.hold(state)

            def let_go(self):
                return bot.let_go()

        free, stage.free_udp_port = stage.free_udp_port, lambda: port
        try:
            sound = phone.hear(Known(), directory)
        finally:
            stage.free_udp_port = free
        return sound


class Ng:
    """rtpengine's control protocol: a cookie and a bencoded dictionary in a datagram, and the same back."""

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(0.2)
        self.number = 0

    def ask(self, members):
        self.number += 1
        cookie = f"{os.getpid()}_{self.number} ".encode()
        for _ in range(50):
            with contextlib.suppress(OSError):
                self.socket.send(cookie + bencode(members))
                answer = self.socket.recv(65_535)
                if answer.startswith(cookie):
                    said, _ = bdecode(answer[len(cookie) :])
                    if said["result"] not in ("ok", "pong"):
                        raise Deaf(f"rtpengine: {said}")
                    return said
                continue
            time.sleep(0.1)
        raise Deaf("rtpengine does not answer")


def bencode(value):
    if isinstance(value, dict):
        return b"d" + b"".join(bencode(name) + bencode(value[name]) for name in sorted(value)) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    if isinstance(value, int):
        return f"i{value}e".encode()
    return f"{len(value.encode())}:".encode() + value.encode()


def bdecode(text):
    if text[:1] == b"d":
        text, made = text[1:], {}
        while text[:1] != b"e":
            name, text = bdecode(text)
            made[name], text = bdecode(text)
        return made, text[1:]
    if text[:1] == b"l":
        text, made = text[1:], []
        while text[:1] != b"e":
            item, text = bdecode(text)
            made.append(item)
        return made, text[1:]
    if text[:1] == b"i":
        number, _, rest = text[1:].partition(b"e")
        return int(number), rest
    length, _, rest = text.partition(b":")
    return rest[: int(length)].decode(), rest[int(length) :]
