"""What stands around a bot in a test: an engine, a web server with prompts, a participant, all on loopback."""

import contextlib
import errno
import functools
import http.server
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("BINARY", ROOT / "target" / "release" / "holdmusic"))
TOKEN, APP_ID, TENANT_ID = "token-of-the-tests", "4f1f5a1b-bot", "5d5ab2a0-3b0f-4b2a-9a67-d3a3e2a5b6c7"
AUDIENCE = "api://holdmusic"  # whom tokens of an issuer are for
# A library may take any address of this machine for its own, and that need not be a private one.
ANYWHERE = ["--allow-media", "0.0.0.0/0", "--allow-media", "::/0"]
PATIENCE = 20  # seconds that a process may take to begin or to end


class Engine:
    """The real binary with a data directory of its own; ended by its process id."""

    def __init__(self, directory, *flags, tls=None, token=TOKEN):
        self.log = directory / "engine.log"
        flags = ["--listen", "127.0.0.1:0", "--data", directory / "data", "--allow-fetch", "127.0.0.0/8", *flags]
        flags += ["--app-id", APP_ID, "--tenant-id", TENANT_ID]
        if token is not None:
            flags += ["--token", token]
        if tls:
            flags += ["--tls-cert", tls[0], "--tls-key", tls[1]]
        with open(self.log, "w") as log:
            command = [BINARY, "serve", *flags]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("holdmusic ready "):
            self.process.kill()
            raise SystemExit(f"The engine did not become ready: {line!r}\n{self.log.read_text()}")
        self.url = line.split()[2]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.pid = self.process.pid

    def end(self):
        """Ends it as an operator does; says what was wrong with its end, or nothing."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"it had to be killed {PATIENCE} s after SIGTERM"
        log = self.log.read_text()
        if code != 0:
            return f"its exit code was {code}:\n{log}"
        if "panicked" in log:
            return f"it panicked:\n{log}"
        if TOKEN in log:
            return "its log shows the token"
        return None


class Prompts:
    """A web server with the fixtures of the tests."""

    def __init__(self, directory=ROOT / "assets" / "fixtures"):
        class Door(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        door = functools.partial(Door, directory=str(directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), door)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Participant:
    """`holdmusic listen`: hears what comes until the leg is gone, then says what it was."""

    def __init__(self, seconds=180):
        self.port = free_udp_port()
        self.address = f"127.0.0.1:{self.port}"
        command = [BINARY, "listen", "--bind", "127.0.0.1", "--port", str(self.port), "--seconds", str(seconds), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + PATIENCE
        while not udp_port_is_taken(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("holdmusic listen did not begin")
            time.sleep(0.01)

    def heard(self):
        """The report, once the leg has gone; at the latest a few seconds after the story."""
        try:
            out, _ = self.process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            out, _ = self.process.communicate(timeout=PATIENCE)
        return json.loads(out)

    def leave(self):
        """Ends it, if nobody did."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def issuer(python):
    """Somebody whose tokens the engine believes; the address of it."""
    command = [python, ROOT / "tests" / "clients" / "issuer.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        url = process.stdout.readline().strip() if ready else ""
        if not url:
            process.kill()
            raise SystemExit("the issuer did not begin")
        yield url
        # It ends with its standard input, which is closed here.


def free_udp_port():
    """An even port, the next one free too, for RTP and RTCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as next:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port % 2 or port > 65000:
                continue
            try:
                next.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def free_tcp_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def udp_port_is_taken(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def certificate(directory):
    """A self-signed certificate for loopback, made as the quick start for JavaScript says."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
