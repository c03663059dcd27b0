# Every recipe does its own set-up; on Debian a Rust toolchain is all that must be there. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help demo test test-clients clients test-receivers receivers test-browser browser test-firefox test-openapi bench bench-peers soak overload restart sim crash quality ready loom miri fuzz music fixtures tools

# One optimised profile for demo, tests and production: the C libraries are built once.
CARGO := cargo
RELEASE := --release --locked

# What building needs besides Rust: libopus is built by cmake and make, aws-lc by the C compiler; packages and
# prompts are fetched over TLS.
PACKAGES := ca-certificates cmake gcc libc6-dev make
CERTIFICATES := /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## hear what a held participant hears: an engine, a bot and a listener in one process
	$(CARGO) run $(RELEASE) -p holdmusic -- demo

test: tools ## every test of the workspace
	@# The end-to-end tests start the binary.
	$(CARGO) build $(RELEASE) -p holdmusic
	$(CARGO) test $(RELEASE) --workspace

# Bots that are made with other people's libraries, in environments of their own below target/.
CLIENTS := target/clients
CLIENT_PACKAGES := python3 python3-venv nodejs npm openssl curl jq

test-clients: clients ## bots made with Microsoft's SDKs (Python, JavaScript) and the quick starts against the binary; ONLY=pattern
	$(CARGO) build $(RELEASE) -p holdmusic
	python3 tests/clients/run.py $(ONLY)

# What test-clients needs besides Rust.
clients: tools
	@missing=; \
	for tool in python3 node npm openssl curl jq; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	python3 -m venv --help >/dev/null 2>&1 || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Missing:$$missing. Installing $(CLIENT_PACKAGES)."; \
	        export DEBIAN_FRONTEND=noninteractive; \
	        apt-get update -qq </dev/null && \
	            apt-get install -y -qq --no-install-recommends $(CLIENT_PACKAGES) </dev/null || exit 1; \
	    else \
	        echo "Missing:$$missing. On Debian: sudo apt-get install $(CLIENT_PACKAGES)"; exit 1; \
	    fi; \
	fi; \
	node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || \
	    { echo "Node.js $$(node --version) is too old: the clients need 20 or later (https://nodejs.org)."; exit 1; }
	@test -x $(CLIENTS)/venv/bin/python || python3 -m venv $(CLIENTS)/venv
	@$(CLIENTS)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt || \
	    { echo "The Python packages of tests/clients/requirements.txt could not be installed."; exit 1; }
	@mkdir -p $(CLIENTS)/npm && cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)/npm && \
	    cd $(CLIENTS)/npm && npm ci --silent --no-audit --no-fund || \
	    { echo "The npm packages of tests/clients/package.json could not be installed."; exit 1; }

# Receivers that others made, in Debian's packages.
RECEIVERS := target/receivers
RECEIVER_PACKAGES := ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    baresip-core rtpengine-daemon python3 python3-venv

test-receivers: receivers ## FFmpeg, GStreamer, baresip and rtpengine hear the prompt, in each codec and protection that they can; ONLY=pattern
	$(CARGO) build $(RELEASE) -p holdmusic
	$(RECEIVERS)/bin/python tests/receivers/run.py $(ONLY)

# What test-receivers needs besides Rust.
receivers: tools
	@missing=; \
	for tool in ffmpeg gst-launch-1.0 baresip rtpengine python3; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	python3 -m venv --help >/dev/null 2>&1 || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Missing:$$missing. Installing $(RECEIVER_PACKAGES)."; \
	        export DEBIAN_FRONTEND=noninteractive; \
	        apt-get update -qq </dev/null && \
	            apt-get install -y -qq --no-install-recommends $(RECEIVER_PACKAGES) </dev/null || exit 1; \
	    else \
	        echo "Missing:$$missing. On Debian: sudo apt-get install $(RECEIVER_PACKAGES)"; exit 1; \
	    fi; \
	fi
	@test -x $(RECEIVERS)/bin/python || python3 -m venv $(RECEIVERS)
	@$(RECEIVERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/receivers/requirements.txt || \
	    { echo "The Python packages of tests/receivers/requirements.txt could not be installed."; exit 1; }

# A browser that looks at the console, and what drives it.
BROWSER := target/browser
BROWSER_PACKAGES := chromium fonts-dejavu-core nodejs npm

test-browser: browser ## Chromium looks at the console: live, by keyboard alone, light, dark, on a phone; pictures in target/browser
	$(CARGO) build $(RELEASE) -p holdmusic
	node tests/browser/run.mjs

test-firefox: tools ## Firefox, whose ICE, DTLS and SRTP are of another make, opens the console and listens in
	@missing=; \
	for tool in firefox-esr node; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Missing:$$missing. Installing firefox-esr nodejs."; \
	        export DEBIAN_FRONTEND=noninteractive; \
	        apt-get update -qq </dev/null && \
	            apt-get install -y -qq --no-install-recommends firefox-esr nodejs </dev/null || exit 1; \
	    else \
	        echo "Missing:$$missing. On Debian: sudo apt-get install firefox-esr nodejs"; exit 1; \
	    fi; \
	fi
	$(CARGO) build $(RELEASE) -p holdmusic
	node --experimental-websocket tests/browser/firefox.mjs

# What test-browser needs besides Rust.
browser: tools
	@missing=; \
	for tool in chromium node npm; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "Missing:$$missing. Installing $(BROWSER_PACKAGES)."; \
	        export DEBIAN_FRONTEND=noninteractive; \
	        apt-get update -qq </dev/null && \
	            apt-get install -y -qq --no-install-recommends $(BROWSER_PACKAGES) </dev/null || exit 1; \
	    else \
	        echo "Missing:$$missing. On Debian: sudo apt-get install $(BROWSER_PACKAGES)"; exit 1; \
	    fi; \
	fi; \
	node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || \
	    { echo "Node.js $$(node --version) is too old: playwright-core needs 20 or later (https://nodejs.org)."; exit 1; }
	@mkdir -p $(BROWSER)/npm && cp tests/browser/package.json tests/browser/package-lock.json $(BROWSER)/npm && \
	    cd $(BROWSER)/npm && npm ci --silent --no-audit --no-fund || \
	    { echo "The npm packages of tests/browser/package.json could not be installed."; exit 1; }

SCHEMATHESIS := schemathesis==4.32.5

test-openapi: T = 600
test-openapi: SEED = 5
test-openapi: tools ## requests made up from /openapi.json, T seconds (600), the same ones for the same SEED (5); needs PyPI
	@python3 -m venv --help >/dev/null 2>&1 || \
	    { echo "Missing: python3-venv. On Debian: sudo apt-get install python3-venv"; exit 1; }
	@test -x $(CLIENTS)/schemathesis/bin/python || python3 -m venv $(CLIENTS)/schemathesis
	@$(CLIENTS)/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check "$(SCHEMATHESIS)" || \
	    { echo "$(SCHEMATHESIS) could not be installed."; exit 1; }
	$(CARGO) build $(RELEASE) -p holdmusic
	python3 tests/clients/openapi.py $(CLIENTS)/schemathesis/bin/schemathesis $(T) $(SEED)

bench: tools ## what a packet costs, and SRTP, first packet, 500 held for a minute, memory, starts among others, starts over HTTP, restarts, browsers that connect, each step, a prompt
	$(CARGO) build $(RELEASE) -p holdmusic -p holdmusic-bench
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin limit
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin capacity
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin protected
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin latency
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin held
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin memory
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin churn
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin prompts
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin api
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin restart
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin handshakes
	$(CARGO) bench --locked -p holdmusic-bench --bench steps
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin prepare -- --json target/prepare.json

# Others that can play a prompt to many; each that is missing is left out of the comparison. Where Debian starts services,
# it starts that of rtpengine-daemon with the package; the bench has one of its own.
PEERS := rtpengine-daemon gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad ffmpeg

bench-peers: tools ## the same prompt from rtpengine, GStreamer, FFmpeg and us, in turns; PEERS_FLAGS="--quick" for less
	@missing=; \
	for tool in rtpengine gst-launch-1.0 ffmpeg; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	for element in opusenc rtpopuspay mulawenc multiudpsink; do \
	    gst-inspect-1.0 --exists $$element 2>/dev/null || missing="$$missing $$element"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Missing:$$missing. Installing $(PEERS)."; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends $(PEERS) </dev/null || \
	        echo "Not all of them could be installed: the bench says who is left out."; \
	else \
	    echo "Missing:$$missing; who needs them is left out. On Debian: sudo apt-get install $(PEERS)"; \
	fi
	$(CARGO) build $(RELEASE) -p holdmusic -p holdmusic-bench
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin peers -- $(PEERS_FLAGS)

soak: T = 120
soak: tools ## T seconds (120) of calls that come and go among 1 200 on hold, everything checked; T=14400 is four hours
	$(CARGO) build $(RELEASE) -p holdmusic -p holdmusic-bench
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin soak -- --seconds $(T) $(SOAK)

overload: T = 30
overload: tools ## T seconds (30) of three times as many holds as may be, then of a flood: who is held must hear nothing of it
	$(CARGO) build $(RELEASE) -p holdmusic -p holdmusic-bench
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin overload -- --seconds $(T)
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin overload -- --seconds $(T) --flood

restart: tools ## what a restart costs those who are held, 10 000 holds after a kill, answers that wait for the disk; RESTART="flags"
	$(CARGO) build $(RELEASE) -p holdmusic -p holdmusic-bench
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin restart -- $(RESTART)

# Where `quality` puts its figures and its judge, which lives in an environment of its own.
QUALITY := target/quality
VISQOL := visqol-python[accel]==3.8.0

sim: SEEDS = 1000
sim: tools ## SEEDS (1000) simulated engines with crashes and disasters; SEED=n tells one of them again
	HOLDMUSIC_SEEDS=$(SEEDS) $(if $(SEED),HOLDMUSIC_SEED=$(SEED)) \
	    $(CARGO) test $(RELEASE) -p holdmusic-tests --test scenarios disasters::whatever -- --nocapture

crash: KILLS = 100
crash: tools ## the binary killed KILLS (100) times at random moments under load; SEED=n chooses the moments
	$(CARGO) build $(RELEASE) -p holdmusic
	HOLDMUSIC_KILLS=$(KILLS) $(if $(SEED),HOLDMUSIC_SEED=$(SEED)) \
	    $(CARGO) test $(RELEASE) -p holdmusic-tests --test end_to_end crash:: -- --nocapture

quality: tools ## what a receiver hears against what was encoded, per bit rate; RECORDINGS="files or directories" for others
	$(CARGO) run $(RELEASE) -p holdmusic-bench --bin quality -- --out $(QUALITY) $(RECORDINGS)
	@if ! python3 -m venv --help >/dev/null 2>&1; then \
	    echo "ViSQOL was not asked: python3 with venv is missing (on Debian: apt-get install python3-venv)."; \
	elif ! { test -x $(QUALITY)/venv/bin/python || python3 -m venv $(QUALITY)/venv; } || \
	    ! $(QUALITY)/venv/bin/python -m pip install --quiet --disable-pip-version-check "$(VISQOL)"; then \
	    echo "ViSQOL was not asked: $(VISQOL) could not be installed."; \
	else \
	    $(QUALITY)/venv/bin/python bench/judge.py $(QUALITY); \
	fi

ready: tools ## what must pass before a change is merged: format, lints, tests, documentation, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(RELEASE) --workspace --all-targets -- -D warnings
	$(MAKE) --no-print-directory test
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(RELEASE) --workspace --no-deps
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "$(CARGO) deny check bans licenses sources"; \
	    $(CARGO) deny --locked check bans licenses sources; \
	else \
	    echo "Licences were not checked: cargo-deny is not installed (cargo install --locked cargo-deny)."; \
	fi

loom: tools ## every interleaving of the ring's writer and reader
	@# A directory of its own: other flags would throw the usual build away.
	RUSTFLAGS="--cfg loom" $(CARGO) test $(RELEASE) --target-dir target/loom -p holdmusic-media --lib loom

miri: tools ## the ring's tests under Miri, which sees data races and wrong memory
	@$(CARGO) +nightly miri --version >/dev/null 2>&1 || { \
	    echo "Miri is missing; install it with: rustup toolchain install nightly --component miri"; exit 1; }
	@# Few random cases: Miri is some hundred times slower. They look for their file of past failures.
	PROPTEST_CASES=4 MIRIFLAGS="-Zmiri-disable-isolation" \
	    $(CARGO) +nightly miri test --locked --target-dir target/miri -p holdmusic-media --lib ring::

T ?= 300
fuzz: tools ## the readers against damaged files, requests, offers and datagrams, T seconds each (needs nightly and cargo-fuzz); what is found: tests/fuzz/artifacts
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || { \
	    echo "cargo-fuzz or the nightly toolchain is missing: cargo install --locked cargo-fuzz"; exit 1; }
	cd tests/fuzz && mkdir -p target/found/offer && for offer in ../../assets/sdp/*.sdp; do \
	    { printf '\000'; cat $$offer; } > target/found/offer/$$(basename $$offer); \
	done
	cd tests/fuzz && for target in $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs))); do \
	    mkdir -p target/found/$$target; \
	    $(CARGO) +nightly fuzz run --fuzz-dir . --features aac $$target target/found/$$target corpus/$$target -- \
	        -max_total_time=$(T) -timeout=10 -rss_limit_mb=1500 -max_len=12000 || exit 1; \
	done

music: tools ## render assets/default-music.wav again: the same bits on every machine
	$(CARGO) run $(RELEASE) -p holdmusic-codecs --example render_default_music

fixtures: tools ## write the WAV files of assets/fixtures again
	$(CARGO) run $(RELEASE) -p holdmusic-tests --bin make_fixtures

# Installs what is missing if it may; otherwise says in one line what is to be installed.
tools:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs"; exit 1; }
	@missing=; \
	for tool in cmake cc make; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	ls $(CERTIFICATES) 2>/dev/null | grep -q . || missing="$$missing ca-certificates"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Missing:$$missing. Installing $(PACKAGES)."; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends $(PACKAGES) </dev/null; \
	else \
	    echo "Missing:$$missing. On Debian: sudo apt-get install $(PACKAGES)"; exit 1; \
	fi
