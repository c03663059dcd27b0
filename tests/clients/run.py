"""Runs the stories of bots that are made with other people's libraries, each against an engine of its own, then the pages of
the documentation that begin from nothing.

    python3 run.py [PATTERN...]    all stories and pages, or those whose name matches

Prints a line for each step and a table at the end; the exit code is 0 if every step held.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import stage

HERE = pathlib.Path(__file__).resolve().parent
MADE = stage.ROOT / "target" / "clients"
PYTHON, NODE = str(MADE / "venv" / "bin" / "python"), "node"
LIMIT = 180  # seconds for one story

# An engine whose participants are the story's.
ALONE = "is heard by the story alone"

# Name, command, and what its engine is like.
STORIES = {
    "msgraph-sdk, Python": ([PYTHON, HERE / "bot_python.py"], None),
    "msgraph-sdk, Python, signed in": ([PYTHON, HERE / "bot_signin.py"], "believes an issuer"),
    "microsoft-graph-client, JavaScript": ([NODE, MADE / "npm" / "bot_javascript.mjs"], "speaks TLS"),
    "msgraph-sdk, JavaScript": ([NODE, MADE / "npm" / "bot_typescript.mjs"], None),
    "aiortc, a WebRTC peer": ([PYTHON, HERE / "peer_aiortc.py"], ALONE),
    "aiortc, by WHEP": ([PYTHON, HERE / "whep_aiortc.py"], ALONE),
}

# Pages whose commands are run. There is no .NET on every machine: the page for C# says so.
PAGES = ["python", "javascript", "curl"]


class Tally:
    def __init__(self, name):
        self.name, self.held, self.failed, self.began = name, 0, 0, time.monotonic()

    def take(self, line):
        """Shows a line of a story, and counts it if it is a step."""
        self.held += line.startswith("✓")
        self.failed += line.startswith("✗")
        print(f"  {time.monotonic() - self.began:5.1f} s  {line.rstrip()}", flush=True)


def tell(name, command, engine_is):
    """A story, and what stands around it."""
    tally = Tally(name)
    print(f"\n{name}", flush=True)
    try:
        act(tally, command, engine_is)
    except SystemExit as stage_is_not_set:
        tally.take(f"✗ the story begins: {stage_is_not_set}")
    tally.seconds = time.monotonic() - tally.began
    return tally


def act(tally, command, engine_is):
    tls = engine_is == "speaks TLS"
    with tempfile.TemporaryDirectory(prefix="holdmusic-clients-") as directory, contextlib.ExitStack() as others:
        directory = pathlib.Path(directory)
        pair = stage.certificate(directory) if tls else None
        issuer = others.enter_context(stage.issuer(PYTHON)) if engine_is == "believes an issuer" else ""
        believes = ["--auth-issuer", f"{issuer}/{stage.TENANT_ID}/v2.0", "--auth-audience", stage.AUDIENCE]
        prompts, participant = stage.Prompts(), stage.Participant()
        others.callback(participant.leave)
        flags = [*(believes if issuer else []), *(stage.ANYWHERE if engine_is == ALONE else [])]
        engine = stage.Engine(directory, *flags, tls=pair, token=None if issuer else stage.TOKEN)
        environment = os.environ | {
            # The name in the certificate.
            "STAGE_ENGINE": engine.url.replace("127.0.0.1", "localhost") if tls else engine.url,
            "STAGE_TOKEN": stage.TOKEN,
            "STAGE_ISSUER": issuer,
            "STAGE_AUDIENCE": stage.AUDIENCE,
            "STAGE_APP_ID": stage.APP_ID,
            "STAGE_TENANT_ID": stage.TENANT_ID,
            "STAGE_PROMPTS": prompts.url,
            "STAGE_PARTICIPANT": participant.address,
            "STAGE_PID": str(engine.pid),
            "STAGE_DATA": str(directory / "data"),
            "STAGE_BINARY": str(stage.BINARY),
        }
        if pair:
            environment["NODE_EXTRA_CA_CERTS"] = str(pair[0])
        try:
            code = run(tally, command, environment)
            if code and not tally.failed:
                tally.take(f"✗ the story ends well: its exit code was {code}")
            if engine_is != ALONE:
                hear(tally, participant.heard())
        finally:
            wrong = engine.end()
        tally.take(f"✗ the engine leaves in peace: {wrong}" if wrong else "✓ the engine leaves in peace")
        if tally.failed:
            print("  what the engine said:\n" + "".join(f"    {line}\n" for line in engine.log.read_text().splitlines()[-40:]))


def turn(page):
    """A page of the documentation, done as a reader does it."""
    tally = Tally(f"docs/quick-start-{page}.md")
    print(f"\n{tally.name}", flush=True)
    code = run(tally, [sys.executable, HERE / "quick_starts.py", page], os.environ)
    if code and not tally.failed:
        tally.take(f"✗ the page ends well: its exit code was {code}")
    tally.seconds = time.monotonic() - tally.began
    return tally


def run(tally, command, environment):
    story = subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    watch = threading.Timer(LIMIT, story.kill)
    watch.start()
    try:
        for line in story.stdout:
            tally.take(line)
        code = story.wait()
    finally:
        watch.cancel()
    if code == -signal.SIGKILL:
        tally.take(f"✗ the story ends within {LIMIT} s")
    return code


def hear(tally, report):
    """What reached the participant, as JSON says it."""
    claim = "the participant heard music without a hole"
    streams = report["streams"]
    if len(streams) != 1:
        return tally.take(f"✗ {claim}: {len(streams)} sources were heard; expected one")
    stream = streams[0]
    codec = stream["payloadTypes"][0]["name"]
    loudness = (report.get("sound") or {}).get("loudnessLufs")
    tally.packets = stream["packets"]
    good = stream["packets"] >= 75 and stream["lost"] == 0 and stream["sequenceErrors"] == 0 and stream["restarts"] == 0
    good = good and loudness is not None and loudness > -40
    words = f"{stream['packets']} packets of {codec}, {stream['lost']} lost, {loudness} LUFS, ended by {report['endedBy']}"
    tally.take(f"{'✓' if good else '✗'} {claim}: {words}")


def lay_out():
    """Node looks for packages beside the script."""
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, MADE / "npm")


def main(wanted):
    if not stage.BINARY.exists():
        raise SystemExit(f"{stage.BINARY} is missing: make test-clients builds it")
    lay_out()

    def is_wanted(name):
        return not wanted or any(re.search(one, name) for one in wanted)

    tallies = [tell(name, *story) for name, story in STORIES.items() if is_wanted(name)]
    tallies += [turn(page) for page in PAGES if is_wanted(f"docs/quick-start-{page}.md")]
    print(f"\n{'client':36} {'held':>5} {'failed':>7} {'heard':>8} {'seconds':>8}")
    for tally in tallies:
        heard = f"{tally.packets} p" if hasattr(tally, "packets") else "-"
        print(f"{tally.name:36} {tally.held:5} {tally.failed:7} {heard:>8} {tally.seconds:8.1f}")
    held, failed = sum(one.held for one in tallies), sum(one.failed for one in tallies)
    print(f"\n{held} passed, {failed} failed")
    return 1 if failed or not held else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
