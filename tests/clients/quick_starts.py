"""The pages docs/quick-start-*.md, done as a reader does them: every file saved, every command run, every output compared.

A fence's info string says what its block is: `sh` is run, `sh background` runs in a terminal of its own, `sh install` has
been done by `make test-clients`, `text` is what the commands before it print (`…` is anything), and a language with a name
is saved under that name. Ports and the data directory are replaced by free ones.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave

import stage
from steps import Steps

MADE = stage.ROOT / "target" / "clients"
FENCE = re.compile(r"^```(.+?)\n(.*?)^```$", re.M | re.S)
LIMIT = 60  # seconds for one block

step = Steps()


class Reader:
    """Somebody at the root of the repository, with the binary in the PATH."""

    def __init__(self, page, directory):
        self.page, self.directory = page, directory
        self.ports = {str(port): str(free()) for port, free in PORTS.items()}
        self.terminals, self.printed = [], []
        (directory / "assets").symlink_to(stage.ROOT / "assets")
        (directory / "venv").symlink_to(MADE / "venv")
        (directory / "node_modules").symlink_to(MADE / "npm" / "node_modules")
        self.environment = os.environ | {
            "PATH": f"{stage.BINARY.parent}{os.pathsep}{os.environ['PATH']}",
            # The engine's own default is the port of the pages.
            "HOLDMUSIC_LISTEN": f"127.0.0.1:{self.ports['8080']}",
        }
        # One shell for the whole page: what a block defines, the next one uses.
        self.shell = subprocess.Popen(
            ["bash", "-u"], cwd=directory, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8",
        )

    def mine(self, text):
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text.replace("/tmp/holdmusic", str(self.directory / "data"))

    def theirs(self, text):
        for port, free in self.ports.items():
            text = re.sub(rf"\b{free}\b", port, text)
        return text

    def open_terminal(self, command):
        log = open(self.directory / f"terminal-{len(self.terminals)}.log", "w+")
        terminal = subprocess.Popen(
            ["bash", "-c", "exec " + self.mine(command)], cwd=self.directory, env=self.environment, stdout=log, stderr=log
        )
        self.terminals.append((terminal, command, log))
        deadline = time.monotonic() + stage.PATIENCE
        while not self.is_ready(command):
            if terminal.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it did not begin: {command.strip()}\n{self.said(log)}")
            time.sleep(0.02)

    def is_ready(self, command):
        if "holdmusic listen" in command:
            return stage.udp_port_is_taken(int(self.ports["40000"]))
        port = next((port for port in ("8000", "9000") if port in command), "8080")
        with socket.socket() as door:
            return door.connect_ex(("127.0.0.1", int(self.ports[port]))) == 0

    def said(self, log):
        log.flush()
        return pathlib.Path(log.name).read_text()

    def run(self, block):
        mark = f"done-{len(self.printed)}-{time.monotonic_ns()}"
        self.shell.stdin.write(f"{self.mine(block)}\necho {mark} $?\n")
        self.shell.stdin.flush()
        watch = threading.Timer(LIMIT, self.shell.kill)
        watch.start()
        lines = []
        for line in self.shell.stdout:
            if line.startswith(mark):
                watch.cancel()
                assert line.split()[1] == "0", f"the exit code was {line.split()[1]}: {' '.join(lines)}"
                self.printed += lines
                return
            lines.append(self.theirs(line.rstrip()))
        raise AssertionError(f"it did not end within {LIMIT} s: {' '.join(lines)}")

    def compare(self, expected):
        expected = expected.splitlines()
        found, self.printed = self.printed, []
        # Without the lines of earlier blocks, whose output the page does not show.
        found = found[-len(expected):]
        for line, pattern in zip(found + [""] * len(expected), expected):
            if not re.fullmatch(re.escape(pattern).replace("…", ".*"), line):
                raise AssertionError(f"it printed {found}; the page says {pattern!r}")

    def leave(self):
        self.shell.kill()
        self.shell.wait()
        for terminal, _, log in reversed(self.terminals):
            if terminal.poll() is None:
                terminal.send_signal(signal.SIGTERM)
                try:
                    terminal.wait(stage.PATIENCE)
                except subprocess.TimeoutExpired:
                    terminal.kill()
                    terminal.wait()
            log.close()


PORTS = {8080: stage.free_tcp_port, 8000: stage.free_tcp_port, 9000: stage.free_tcp_port, 40000: stage.free_udp_port}


def packages_of(block):
    """What an install block installs."""
    words = [word.strip("'\"") for line in block.splitlines() if " install " in line for word in line.split(" install ")[1].split()]
    return [word for word in words if not word.startswith("-")]


def read(page):
    pinned = (stage.ROOT / "tests/clients/requirements.txt").read_text() + (stage.ROOT / "tests/clients/package.json").read_text()
    with tempfile.TemporaryDirectory(prefix="holdmusic-page-") as directory:
        reader = Reader(page, pathlib.Path(directory))
        try:
            for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
                first = next((line for line in block.splitlines() if line.strip()), "").strip()
                with step(f"{kind}: {first[:70]}") as seen:
                    language, _, rest = kind.partition(" ")
                    if kind == "sh background":
                        reader.open_terminal(block)
                    elif kind == "sh install":
                        for package in packages_of(block):
                            assert package in pinned, f"{package} is not what make test-clients installs"
                        seen("done by make test-clients")
                    elif language == "sh":
                        reader.run(block)
                    elif language == "text":
                        reader.compare(block)
                        seen("as the page says")
                    else:
                        (reader.directory / rest).write_text(reader.mine(block), encoding="utf-8")
            with step("the participant heard the music and wrote it down") as seen:
                listener, _, log = next(one for one in reader.terminals if "holdmusic listen" in one[1])
                listener.wait(stage.PATIENCE)
                report = reader.said(log)
                assert re.search(r"continuity +perfect", report), report
                with wave.open(str(reader.directory / "heard.wav")) as heard:
                    seconds = heard.getnframes() / heard.getframerate()
                assert seconds > 4, f"{seconds} s were heard"
                seen(f"{seconds:.1f} s, continuity perfect")
        finally:
            reader.leave()


read(stage.ROOT / "docs" / f"quick-start-{sys.argv[1]}.md")
sys.exit(1 if step.failed else 0)
