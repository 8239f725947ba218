//! Configuration files: `-c`, `-t`, `-T`, the examples, and that a wrong file starts nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::deadline::within;
use crate::support::ringway::Options;
use crate::support::{Backend, PATIENCE, Ringway};

/// Runs a command that must end by itself: its exit code, stdout and stderr.
fn run(command: &mut Command, stdin: &str) -> (Option<i32>, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    if within(PATIENCE, || child.try_wait().unwrap()).is_none() {
        child.kill().unwrap();
        panic!("{command:?} went on running");
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn ringway(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    run(Options::bare().args(args), stdin)
}

/// A directory of this test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringway-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.0.join(name).display().to_string()
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    paths.sort();
    paths
}

const GOOD: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n\n[[cluster]]\nbackend = \"127.0.0.1:1\"\n";

#[test]
fn every_example_passes_the_check() {
    assert!(examples().len() >= 7);
    for path in examples() {
        let (code, stdout, stderr) = ringway(&["-t", "-c", path.to_str().unwrap()], "");
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{path:?}");
        assert!(stdout.starts_with("configuration ok: "), "{path:?}: {stdout}");
    }
}

#[test]
fn the_quick_start_serves_from_both_backends() {
    let (a, b) = (Backend::well_behaved("a"), Backend::well_behaved("b"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quick-start.toml");
    let mut command = Options::bare();
    command.arg("-c").arg(path).args(["--cores", "0", "--log-format", "json"]);
    command.env("PORT", "0").env("BACKEND_1", a.address.to_string()).env("BACKEND_2", b.address.to_string());
    let ringway = Ringway::spawn(command);
    let port = ringway.address().port();
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut answers = [(); 2].map(|()| crate::support::Client::connect(local).get("/").text());
    answers.sort();
    assert_eq!(answers, ["a", "b"]);
}

#[test]
fn a_wrong_file_is_exit_3_with_every_mistake_and_nothing_started() {
    let directory = Directory::new("wrong");
    let wrong = "[[listener]]\nbind = \":99999\"\nmode = \"htpp\"\n[[cluster]]\nbackend = \"a:1\"\nweigth = 3\n[defaults]\nvia = \"on\"\n";
    let path = directory.write("wrong.toml", wrong);
    for args in [&["-c", &path][..], &["-t", "-c", &path], &["-T", "-c", &path]] {
        let (code, stdout, stderr) = ringway(args, "");
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 4, "{stderr}");
        for (line, (number, key)) in lines.iter().zip([
            (2, "listener.bind"),
            (3, "listener.mode"),
            (6, "cluster.weigth"),
            (8, "defaults.via"),
        ]) {
            assert!(line.starts_with(&format!("error: {path}:{number}: {key}: ")), "{line}");
        }
    }
    let (code, _, stderr) = ringway(&["-c", "/nowhere/at/all.toml"], "");
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("/nowhere/at/all.toml"), "{stderr}");
}

#[test]
fn a_name_that_is_there_twice_is_a_mistake_of_the_second() {
    let route =
        |path: &str| format!("[[route]]\nname = \"shop\"\npath = \"{path}\"\ncluster = \"default\"\n");
    let (code, stdout, stderr) =
        ringway(&["-t", "-c", "-"], &(GOOD.to_owned() + &route("/a") + &route("/b")));
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let told = "error: standard input:11: route.name: there is another route `shop` (standard input:7)";
    assert!(stderr.starts_with(told), "{stderr}");
}

#[test]
fn checking_opens_and_resolves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = format!(
        "[[listener]]\nbind = \"{}\"\n[[cluster]]\nbackend = \"no.such.host.invalid:1\"\n",
        taken.local_addr().unwrap()
    );
    let (code, stdout, stderr) = ringway(&["-t", "-c", "-"], &file);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, "configuration ok: 1 listener, 0 routes, 1 cluster, 1 backend\n");
    let (code, stdout, _) = ringway(&["-t", "--backends", "no.such.host.invalid:1"], "");
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("configuration ok"), "{stdout}");
    let (code, _, stderr) = ringway(&["-t", "--backends", "a:1", "--down-text", "x"], "");
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: `--down-text`: "), "{stderr}");
}

#[test]
fn warnings_are_shown_and_do_not_fail() {
    let file = format!("{GOOD}[defaults]\nconnect_timeout = \"20s\"\n");
    let (code, stdout, stderr) = ringway(&["-t", "-c", "-"], &file);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("configuration ok"), "{stdout}");
    assert!(stderr.starts_with("warning: standard input:7: defaults.connect_timeout: "), "{stderr}");
}

#[test]
fn a_dump_can_be_loaded_and_dumps_the_same() {
    for path in examples() {
        let (code, dump, stderr) = ringway(&["-T", "-c", path.to_str().unwrap()], "");
        assert_eq!(code, Some(0), "{stderr}");
        let (code, again, stderr) = ringway(&["-T", "-c", "-"], &dump);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{dump}");
        assert_eq!(again, dump);
    }
    let (_, by_flags, _) = ringway(&["-T", "--backends", "http://a:1,b:2;weight=3", "--listen", ":80"], "");
    let (code, again, _) = ringway(&["-T", "-c", "-"], &by_flags);
    assert_eq!((code, again), (Some(0), by_flags));
}

#[test]
fn a_directory_is_read_in_order_and_standard_input_at_once() {
    let directory = Directory::new("directory");
    let backend = Backend::well_behaved("a");
    directory.write("20-cluster.toml", &format!("[[cluster]]\nbackend = \"{}\"\n", backend.address));
    directory.write("10-listener.toml", "[[listener]]\nbind = \"127.0.0.1:0\"\n");
    directory.write("readme.txt", "not read");
    let mut command = Options::bare();
    command.args(["--cores", "0", "-c", &directory.path()]);
    let ringway_of_directory = Ringway::spawn(command);
    assert_eq!(ringway_of_directory.get("/").text(), "a");
    directory.write("30-more.toml", "[[cluster]]\nnaem = \"b\"\n");
    let (code, _, stderr) = ringway(&["-t", "-c", &directory.path()], "");
    assert_eq!(code, Some(3));
    assert!(stderr.contains("30-more.toml:2: cluster.naem: ") && stderr.contains("`name`"), "{stderr}");
}

/// It can be read only once, so a reload goes by what was read.
#[test]
fn standard_input_is_served_and_outlives_a_reload() {
    let directory = Directory::new("input");
    let backend = Backend::well_behaved("a");
    let path = directory.write("input", &GOOD.replace("127.0.0.1:1", &backend.place));
    let mut command = Options::bare();
    command.args(["-c", "-", "--cores", "0"]).stdin(fs::File::open(path).unwrap());
    let ringway = Ringway::spawn(command);
    assert_eq!(ringway.get("/").text(), "a");
    ringway.signal(libc::SIGHUP);
    ringway.wait_line("the end of the reload", |line| line.contains("reloaded listeners=1"));
    assert_eq!(ringway.get("/").text(), "a");
}

#[test]
fn the_environment_fills_in_and_flags_go_first() {
    let directory = Directory::new("environment");
    let path = directory.write("a.toml", "[[listener]]\nbind = \"127.0.0.1:${PORT}\"\n[[cluster]]\nbackend = \"a:${TO:-1}\"\n[log]\nformat = \"text\"\n");
    let mut command = Options::bare();
    command
        .args(["-T", "-c", &path, "--log-format", "json", "--admin", "127.0.0.1:9"])
        .env("PORT", "77")
        .env_remove("TO");
    let (code, stdout, stderr) = run(&mut command, "");
    assert_eq!(code, Some(0), "{stderr}");
    for part in
        ["bind = \"127.0.0.1:77\"", "address = \"a:1\"", "format = \"json\"", "bind = \"127.0.0.1:9\""]
    {
        assert!(stdout.contains(part), "{stdout}");
    }
    let (code, _, stderr) = run(Options::bare().args(["-t", "-c", &path]).env_remove("PORT"), "");
    assert_eq!(code, Some(3));
    assert!(stderr.contains("a.toml:2: listener.bind: ") && stderr.contains("`PORT`"), "{stderr}");
    let (code, _, stderr) = ringway(&["-c", &path, "--backends", "a:1"], "");
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`--backends` does not go with `-c`"), "{stderr}");
}
