"""Schemathesis against the binary: whatever the OpenAPI document allows and forbids, for T seconds, with one seed.

    python3 openapi.py SCHEMATHESIS SECONDS [SEED]

Nothing leaves this machine: it runs in a network of its own that has a loopback and nothing else, where the system allows
that; elsewhere every address that it makes up is led to loopback. What it found is kept below target/clients/openapi.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

import stage

HERE = pathlib.Path(__file__).resolve().parent
REPORTS = stage.ROOT / "target" / "clients" / "openapi"
ALONE = ["unshare", "--net", "--map-root-user"]


def alone():
    """Whether we are, after having tried to be: the same command again, in a network of its own."""
    if os.environ.get("STAGE_ALONE"):
        # A new network's loopback is down.
        return subprocess.run(["ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
    possible = shutil.which("unshare") and shutil.which("ip") and subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0
    if possible:
        os.environ["STAGE_ALONE"] = "1"
        os.execvp(ALONE[0], [*ALONE, sys.executable, *sys.argv])
    print("No network of its own (unshare, ip): every address is led to loopback instead.", flush=True)
    return False


def main(schemathesis, seconds, seed):
    is_alone = alone()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="holdmusic-openapi-") as directory, socket.socket(type=socket.SOCK_DGRAM) as sink:
        # Where media goes that nobody hears.
        sink.bind(("127.0.0.1", 0))
        prompts = stage.Prompts()
        engine = stage.Engine(pathlib.Path(directory), "--allow-media", "127.0.0.0/8", "--prompts", stage.ROOT / "assets" / "fixtures")
        environment = os.environ | {
            "STAGE_ENGINE": engine.url,
            "STAGE_TOKEN": stage.TOKEN,
            "STAGE_PROMPTS": prompts.url,
            "STAGE_SINK": f"127.0.0.1:{sink.getsockname()[1]}",
            "PYTHONPATH": str(HERE),
            "SCHEMATHESIS_HOOKS": "openapi_hooks",
        }
        command = [pathlib.Path(schemathesis).absolute(), "--config-file", HERE / "schemathesis.toml", "run", f"{engine.url}/openapi.json", "--checks", "all", "--mode", "all"]
        command += ["--max-time", str(seconds), "--seed", str(seed), "--generation-database", "none", "--workers", "1"]
        command += ["--header", f"Authorization: Bearer {stage.TOKEN}", "--request-timeout", "30", "--continue-on-failure"]
        command += ["--report", "junit,json", "--report-junit-path", REPORTS / "junit.xml", "--report-json-path", REPORTS / "run.json"]
        command += ["--no-color"]
        print(f"Schemathesis for {seconds} s with seed {seed}, {'in a network of its own' if is_alone else 'on loopback'}", flush=True)
        with open(REPORTS / "summary.txt", "w", encoding="utf-8") as summary:
            run = subprocess.Popen(
                [str(part) for part in command], env=environment, cwd=directory, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            )
            for line in run.stdout:
                summary.write(line)
                print(line, end="", flush=True)
            code = run.wait()
        wrong = engine.end()
        shutil.copy(engine.log, REPORTS / "engine.log")
    print(f"kept in {REPORTS.relative_to(stage.ROOT)}: summary.txt, junit.xml, run.json, engine.log")
    if wrong:
        print(f"✗ the engine: {wrong[-2000:]}")
    return 1 if code or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5))
