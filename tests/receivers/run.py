"""Has receivers that others made hear what a held participant hears, each with the codec and the protection that it can:
FFmpeg, GStreamer (its srtpdec is libsrtp), baresip as a SIP phone, rtpengine as the box in the middle.

    python3 run.py [PATTERN...]    all of them, or those whose name matches

Each is offered, answered and held over HTTP by the real binary, on loopback. What it wrote is found in the prompt by
correlation. Prints a line for each and a table at the end; the exit code is 0 if all heard the prompt and lost nothing.
"""

import contextlib
import pathlib
import re
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "clients")]

import bot  # noqa: E402
import ears  # noqa: E402
import judge  # noqa: E402
import stage  # noqa: E402

CODECS = {
    "opus": ("opus/48000/2", 111),
    "PCMU": ("PCMU/8000", 0),
    "PCMA": ("PCMA/8000", 8),
    "G722": ("G722/8000", 9),
    "L16": ("L16/16000", 97),
}
CM = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]
GCM = ["AEAD_AES_128_GCM", "AEAD_AES_256_GCM"]


def cases():
    """Name, and what hears it."""
    for codec in CODECS:
        yield f"FFmpeg, {codec}", ears.Ffmpeg(*CODECS[codec])
    for suite in CM:
        yield f"FFmpeg, PCMA, {suite}", ears.Ffmpeg(*CODECS["PCMA"], suite)
        yield f"FFmpeg, opus, {suite}", ears.Ffmpeg(*CODECS["opus"], suite)
    for codec in ["opus", "PCMU", "PCMA", "L16"]:
        yield f"GStreamer, {codec}", ears.GStreamer(*CODECS[codec])
    for suite in CM + GCM:
        yield f"GStreamer, opus, {suite}", ears.GStreamer(*CODECS["opus"], suite)
    # Its keystream would be another one after the sequence number came round, if a roll-over were missed.
    for suite in [CM[0], GCM[0]]:
        yield f"GStreamer, opus, {suite}, over 65 535", ears.GStreamer(*CODECS["opus"], suite, first=65_400)
    for codec in CODECS:
        yield f"FFmpeg, {codec}, 10 ms", ears.Ffmpeg(*CODECS[codec], packet_ms=10)
    yield "GStreamer, PCMU, 10 ms", ears.GStreamer(*CODECS["PCMU"], packet_ms=10)
    yield f"GStreamer, opus, {GCM[0]}, 10 ms", ears.GStreamer(*CODECS["opus"], GCM[0], packet_ms=10)
    for codec in ["opus", "PCMU", "PCMA", "G722"]:
        yield f"baresip, {codec}", ears.Baresip(codec)
    for codec in ["opus", "PCMA"]:
        yield f"baresip, {codec}, SRTP", ears.Baresip(codec, "srtp-mand")
    for transport in ["RTP/AVP", "RTP/SAVP", "UDP/TLS/RTP/SAVPF"]:
        for codec in ["PCMA", "opus"]:
            yield f"rtpengine, {codec}, {transport}", ears.Rtpengine(*CODECS[codec], transport)


def hear(engine, prompts, name, ear, directory):
    """One receiver; what was wrong, or nothing, and what it heard."""
    began = time.monotonic()
    wrong, found = None, None
    try:
        sound = ear.hear(bot.Bot(engine.url, f"{prompts.url}/music-16k.wav"), directory)
        found = judge.judge(sound, stage.ROOT / "assets" / "fixtures" / "music-16k.wav", ear.band)
        wrong = ear.wrong or found.wrong()
    except (bot.Refused, ears.Deaf, OSError) as reason:
        wrong = str(reason)
    mark = "✗" if wrong else "✓"
    print(f"{mark} {name:<52} {time.monotonic() - began:5.1f} s  {found or ''}  {wrong or ''}", flush=True)
    return wrong


def main():
    patterns = sys.argv[1:]
    chosen = [(name, ear) for name, ear in cases() if not patterns or any(re.search(p, name) for p in patterns)]
    missing = sorted({ear.program for _, ear in chosen if not shutil.which(ear.program)})
    if missing:
        raise SystemExit(f"Missing: {', '.join(missing)}. `make receivers` installs them.")
    failed = []
    with tempfile.TemporaryDirectory(prefix="holdmusic-receivers-") as directory, contextlib.ExitStack() as others:
        directory = pathlib.Path(directory)
        prompts = stage.Prompts()
        engine = stage.Engine(directory)
        others.callback(engine.process.kill)
        for number, (name, ear) in enumerate(chosen):
            place = directory / str(number)
            place.mkdir()
            if hear(engine, prompts, name, ear, place):
                failed.append(name)
        unwell = engine.end()
    print(f"\n{len(chosen)} receivers, {len(failed)} failed")
    for name in failed:
        print(f"  {name}")
    if unwell:
        print(f"The engine: {unwell}")
    return 1 if failed or unwell or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
