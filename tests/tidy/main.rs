//! The house rules, as far as a machine can keep them. Each test names every place where a rule is broken.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files over so many lines get a friendly remark: which wall is missing?
const LONG: usize = 500;

/// Crates that no pure room may look at: they would bring a clock, a socket, a thread pool or a disk.
const DOORS: &[&str] = &[
    "aws-lc-rs",
    "axum",
    "axum-server",
    "crossbeam-channel",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "nix",
    "redb",
    "reqwest",
    "rustix",
    "socket2",
    "time",
    "tokio",
    "tower-http",
    "ureq",
];

/// The crates without doors.
const PURE: &[&str] = &["codecs", "engine/media", "engine/control"];

/// Every crate of the workspace.
const CRATES: &[&str] = &["codecs", "engine/media", "engine/control", "engine/server", "tests", "bench"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files of the tree, relative to the root; what tools leave behind is no part of it.
fn files() -> Vec<String> {
    let mut found = vec![];
    let mut left = vec![root()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("a directory can be read").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            if path.is_dir() {
                let ours = !name.starts_with('.') || name == ".ci" || name == ".cargo";
                if ours && !["target", "held"].contains(&name.as_str()) {
                    left.push(path);
                }
            } else if name != ".git" {
                let inside = path.strip_prefix(root()).expect("it is below the root");
                found.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file with its text.
fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(|path| (path.clone(), read(&path))).collect()
}

#[track_caller]
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Lines of a file that hold `pattern`, as `path:line`.
fn places(path: &str, text: &str, pattern: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains(pattern));
    lines.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())).collect()
}

#[test]
fn every_file_opens_with_what_it_is() {
    let without: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    none("a file's first line is //! and a sentence", &without);
}

#[test]
fn every_module_is_on_the_map_and_every_name_on_the_map_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md, the map of the house, is at the root of the tree");
    let files = files();
    let modules = files.iter().filter(|path| {
        let inside = CRATES.iter().find_map(|room| path.strip_prefix(&format!("{room}/src/")));
        // The modules of the map are the rooms; what is inside a room, a folder of its name, is that room's affair.
        inside.is_some_and(|inside| inside.ends_with(".rs") && !inside.contains('/'))
            && !path.starts_with("tests/")
            && !path.starts_with("bench/")
            && !path.ends_with("/tests.rs")
    });
    let names: Vec<&str> = map
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.ends_with(".rs") && word.len() > 3)
        .collect();
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let missing: Vec<_> =
        modules.filter(|path| !names.iter().any(|name| last(name) == last(path))).cloned().collect();
    none("ARCHITECTURE.md's code map names every module", &missing);
    let exists = |name: &&str| files.iter().any(|path| path == name || path.ends_with(&format!("/{name}")));
    let invented: Vec<_> = names.iter().filter(|name| !exists(name)).map(|name| (*name).to_owned()).collect();
    none("what ARCHITECTURE.md names exists", &invented);
}

/// `docs/security.md` names them as `path/of/a/file.rs::name_of_a_test`.
#[test]
fn every_test_that_shows_a_defence_exists() {
    let document = read("docs/security.md");
    let named: Vec<_> = document.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let missing = named.iter().filter(|(file, test)| {
        let text = fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
        // Those of proptest take arguments.
        !text.contains(&format!("fn {test}("))
    });
    let missing: Vec<_> = missing.map(|(file, test)| format!("{file}.rs::{test}")).collect();
    none("docs/security.md names tests that exist", &missing);
}

#[test]
fn the_pure_crates_have_no_doors() {
    let mut broken = vec![];
    for room in PURE {
        let manifest = read(&format!("{room}/Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            }
            // Development may look outside; what ships may not.
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if section == "dependencies" && DOORS.contains(&name) {
                broken.push(format!("{room}: {name}"));
            }
        }
    }
    // `control` writes dates with the crate `time`, which can also read the clock: clippy.toml keeps that door shut.
    broken.retain(|broken| broken != "engine/control: time");
    none("codecs, media and control depend on no runtime, socket or HTTP crate", &broken);
}

#[test]
fn data_walks_one_way() {
    let may_use: &[(&str, &[&str])] = &[
        ("codecs", &[]),
        ("engine/media", &["holdmusic-codecs"]),
        ("engine/control", &["holdmusic-codecs", "holdmusic-media"]),
        ("engine/server", &["holdmusic-codecs", "holdmusic-media", "holdmusic-control"]),
    ];
    let mut broken = vec![];
    for (room, allowed) in may_use {
        for line in read(&format!("{room}/Cargo.toml")).lines().filter(|line| line.starts_with("holdmusic-"))
        {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&name) {
                broken.push(format!("{room} uses {name}"));
            }
        }
    }
    none("codecs <- media <- control <- server, and no way back", &broken);
}

#[test]
fn every_asset_is_listed_with_its_origin() {
    let list = read("assets/README.md");
    let assets = files().into_iter().filter_map(|path| path.strip_prefix("assets/").map(str::to_owned));
    let unlisted: Vec<_> =
        assets.filter(|path| path != "README.md" && !list.contains(&format!("`{path}`"))).collect();
    none("assets/README.md names every file below it", &unlisted);
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let lost: Vec<_> =
        rows.filter(|path| !root().join("assets").join(path).exists()).map(str::to_owned).collect();
    none("what assets/README.md lists is there", &lost);
}

#[test]
fn nothing_knows_on_which_machine_it_was_made() {
    // In two pieces, so that this file does not find itself.
    let machine = ["/wo", "/ro", "/ho"].iter().zip(["rk/", "ot/", "me/"]).map(|(a, b)| format!("{a}{b}"));
    let patterns: Vec<_> = machine.collect();
    let mut broken = vec![];
    for path in files() {
        // Sound is not text, and Cargo writes its lock file itself.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for pattern in &patterns {
            let found = places(&path, &text, pattern);
            broken.extend(found.into_iter().filter(|place| is_absolute(place, pattern)));
        }
    }
    none("no path of somebody's machine", &broken);
}

/// Whether the pattern begins a path, rather than being the middle of a relative one or of an address.
fn is_absolute(line: &str, pattern: &str) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !(before.is_alphanumeric() || matches!(before, '.' | '_' | '-' | '}')))
    })
}

#[test]
fn long_files_are_remarked_upon() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LONG {
            println_remark(&format!("{path} has {lines} lines: which wall is missing?"));
        }
    }
}

#[expect(clippy::print_stdout, reason = "a remark for whoever runs the tests, not a failure")]
fn println_remark(remark: &str) {
    println!("{remark}");
}

#[test]
fn clippy_guards_clocks_sockets_threads_and_dice() {
    let rules = read("clippy.toml");
    let forbidden = [
        "std::time::Instant::now",
        "std::time::Instant::elapsed",
        "std::time::SystemTime::now",
        "std::thread::sleep",
        "std::thread::spawn",
        "std::net::UdpSocket::bind",
        "std::net::TcpListener::bind",
        "std::net::TcpStream::connect",
        "rand::rng",
        "rand::random",
    ];
    let missing: Vec<_> = forbidden
        .iter()
        .filter(|path| !rules.contains(&format!("\"{path}\"")))
        .map(|path| (*path).to_owned())
        .collect();
    none("clippy.toml forbids", &missing);
    let others: Vec<_> =
        files().into_iter().filter(|path| path.ends_with("clippy.toml") && path != "clippy.toml").collect();
    none("clippy merges no configurations: there is one clippy.toml", &others);
}

#[test]
fn every_crate_takes_the_lints_of_the_house() {
    let without: Vec<_> = CRATES
        .iter()
        .filter(|room| !read(&format!("{room}/Cargo.toml")).contains("[lints]\nworkspace = true"))
        .map(|room| (*room).to_owned())
        .collect();
    none("[lints] workspace = true", &without);
    let house = read("Cargo.toml");
    for lint in ["unsafe_code = \"forbid\"", "dbg_macro", "todo", "print_stdout", "disallowed_methods"] {
        assert!(house.contains(lint), "the lints of the workspace say {lint}");
    }
}

#[test]
fn nothing_is_left_undone_or_switched_off_in_silence() {
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}{}(", '!'));
    let switched_off = format!("#[{}]", "ignore");
    let allowed = format!("#[{}(", "allow");
    let mut broken = vec![];
    for (path, text) in sources() {
        for pattern in macros.iter().chain([&switched_off, &allowed]) {
            broken.extend(places(&path, &text, pattern));
        }
    }
    none("no unfinished work, no ignored test without a reason, exceptions by #[expect(…, reason)]", &broken);
}
