//! The whole way from a text or from flags to a plan and back.

mod reference;

use std::ffi::OsString;

use proptest::prelude::*;

use super::{plan::cluster::Sticky, source::Files, *};
use crate::cli::{self, Command};

/// What every test's process looks like.
pub(super) fn environment() -> Environment<'static> {
    Environment {
        variable: &|name| match name {
            "PORT" => Some("8080".to_owned()),
            "YES" => Some("true".to_owned()),
            _ => None,
        },
        cores: vec![0, 1, 2, 3],
        sticky_key: [7; 32],
    }
}

fn text(text: &str) -> Source {
    Source::Files {
        files: Files::Text("a.toml".to_owned(), text.to_owned()),
        overrides: Overrides::default(),
    }
}

/// What this text means.
pub(super) fn checked(content: &str) -> Checked {
    load(&text(content), &environment()).unwrap_or_else(|mistakes| panic!("{content}: {mistakes:#?}"))
}

/// Every mistake in this text, each as it is shown.
pub(super) fn mistakes(content: &str) -> Vec<String> {
    match load(&text(content), &environment()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

fn flags(args: &[&str]) -> Result<Checked, Vec<Mistake>> {
    let args = ["ringway"].iter().chain(args).map(OsString::from);
    match cli::parse(args) {
        Ok(Command::Run(source)) => {
            let cores = cores::allowed().unwrap();
            load(&source, &Environment { cores, ..environment() })
        }
        other => panic!("{other:?}"),
    }
}

const QUICK_START: &str = r#"
[[listener]]
bind = ":80"

[[cluster]]
backend = ["10.0.0.1:8080", "10.0.0.2:8080"]
"#;

#[test]
fn six_lines_are_enough() {
    assert!(QUICK_START.trim().lines().count() <= 6);
    let checked = checked(QUICK_START);
    assert_eq!(checked.summary(), "1 listener, 0 routes, 1 cluster, 2 backends");
    assert!(checked.warnings().is_empty());
    let plan = checked
        .clone()
        .into_plan(vec![vec!["10.0.0.1:8080".parse::<std::net::SocketAddr>().unwrap().into()]]);
    assert_eq!(plan.listeners[0].endpoint.to_string(), "0.0.0.0:80");
    assert_eq!(plan.listeners[0].cluster, Some(0));
    assert_eq!(plan.clusters[0].backends[1].endpoints[0].to_string(), "10.0.0.2:8080");
    assert_eq!(plan.timeouts, plan::Timeouts::default());
    assert_eq!(plan.headers, plan::HeaderPolicy::default());
}

#[test]
fn flags_and_files_make_the_same_plan() {
    let by_flags = flags(&[
        "--backends=tcp://a:1,[::1]:2;weight=3",
        "--mode=tcp",
        "--listen=127.0.0.1:0",
        "--listen=[::]:80",
        "--accept-proxy=10.0.0.0/8",
        "--send-proxy=v2",
        "--source=10.1.1.1",
        "--down-text=gone",
        "--admin=127.0.0.1:9",
    ]);
    let by_file = checked(
        r#"
        [[listener]]
        bind = ["127.0.0.1:0", "[::]:80"]
        mode = "tcp"
        accept_proxy = "10.0.0.0/8"
        down_text = "gone\n"
        [[cluster]]
        send_proxy = "v2"
        source = "10.1.1.1"
        backend = ["tcp://a:1", { address = "[::1]:2", weight = 3 }]
        [admin]
        bind = "127.0.0.1:9"
        "#,
    );
    let by_flags = by_flags.unwrap();
    assert_eq!(by_flags.to_toml(), by_file.to_toml());
    let names: Vec<_> = by_flags.draft.listeners.iter().map(|listener| listener.name.to_string()).collect();
    assert_eq!(names, ["default", "default-2"]);
}

#[test]
fn flags_that_contradict_are_named() {
    let http = "--backends=http://localhost:3031";
    for (args, tokens) in [
        (&["--backends=a:1", "--mode=udp", "--listen=unix:/a"][..], &["`--listen`", "mode `udp`"][..]),
        (&["--backends=a:1", "--mode=udp", "--send-proxy=v2"], &["`--send-proxy`", "mode `udp`"]),
        (&["--backends=tcp://a:1", "--mode=udp"], &["`tcp://a:1`", "`udp://a:1` or `a:1`"]),
        (&["--backends=unix:/a", "--mode=udp"], &["`unix:/a`", "mode `udp`"]),
        (&[http, "--down-text=x"], &["`--down-text`", "mode `http`"]),
        (&[http, "--listen=unix:/a", "--listen=unix:/a"], &["`--listen`", "`unix:/a` is bound twice"]),
        (&[http, "--listen=:80", "--listen=*:80"], &["`0.0.0.0:80` is bound twice"]),
        (&["--mode=tcp", http], &["`http://localhost:3031`", "`tcp://localhost:3031`"]),
        (&[http, "--admin=:3030"], &["`--admin`", "`0.0.0.0:3030` is taken by listener `default`"]),
        (&["--backends=tcp://a:1"], &["`--backends`", "`tcp://a:1`", "`http://a:1` or `a:1`"]),
        (&["--backends=a:1;weight=0"], &["`--backends`", "weight 0"]),
    ] {
        let mistakes = flags(args).unwrap_err();
        let message: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let message = message.join("\n");
        for token in tokens {
            assert!(message.contains(token), "{args:?}: `{message}` lacks `{token}`");
        }
    }
    assert!(flags(&[http, "--listen=127.0.0.1:0", "--listen=127.0.0.1:0"]).is_ok());
}

#[test]
fn placeholders_stand_for_texts_numbers_and_booleans() {
    let plan = checked(
        r#"
        [[listener]]
        bind = "127.0.0.1:${PORT}"
        [[cluster]]
        [[cluster.backend]]
        address = "a:${PORT:-1}"
        weight = "${WEIGHT:-7}"
        backup = "${NO:-false}"
        [defaults]
        trust_forwarded = "${YES}"
        via = "${NO:-false}"
        "#,
    );
    let plan = plan.draft;
    assert_eq!(plan.listeners[0].endpoint.to_string(), "127.0.0.1:8080");
    assert_eq!((&*plan.clusters[0].backends[0].name, plan.clusters[0].backends[0].weight), ("a:8080", 7));
    assert!(plan.headers.trust_forwarded && !plan.headers.via);
    // Not whole, or written as a text.
    let wrong = QUICK_START.to_owned() + "[defaults]\nvia = \"true\"\ntrust_forwarded = \"${YES}x\"\n";
    assert_eq!(mistakes(&wrong).len(), 2);
}

#[test]
fn flags_go_before_the_file() {
    let mut source =
        text(&(QUICK_START.to_owned() + "[runtime]\ncores = \"2\"\nshutdown_timeout = \"1s\"\n"));
    if let Source::Files { overrides, .. } = &mut source {
        overrides.cores = Some(vec![3, 1]);
        overrides.admin = Some("127.0.0.1:9".parse().unwrap());
        overrides.log_format = Some(LogFormat::Json);
    }
    let checked = load(&source, &environment()).unwrap();
    assert_eq!(checked.draft.cores, [3, 1]);
    assert_eq!(checked.draft.timeouts.shutdown.as_secs(), 1);
    assert_eq!(checked.draft.admin.unwrap().port(), 9);
    assert_eq!(checked.log_format(), LogFormat::Json);
}

#[test]
fn sticky_keys_are_neither_shown_nor_lost() {
    let key = "ab".repeat(32);
    let own = format!("{QUICK_START}sticky = {{ cookie = \"s\", key = \"{key}\" }}\n");
    let cookie_key = |checked: &Checked| match &checked.draft.clusters[0].sticky {
        Some(Sticky::Cookie(cookie)) => cookie.key,
        other => panic!("{other:?}"),
    };
    let given = checked(&own);
    assert_eq!(cookie_key(&given), [0xab; 32]);
    assert!(!given.to_toml().contains("abab") && given.to_toml().contains("# key is set, and is not shown"));
    assert!(!given.to_json().to_string().contains("abab"));
    assert!(checked(&given.to_toml()).to_toml().contains("cookie = \"s\""));
    let without = checked(&own.replace(&format!(", key = \"{key}\""), ""));
    assert_eq!(cookie_key(&without), [7; 32]);
    // A wrong one may be nearly right.
    let wrong = mistakes(&own.replace(&key, &"ab".repeat(31)));
    assert!(
        wrong.len() == 1 && wrong[0].contains("64 hexadecimal digits") && !wrong[0].contains("abab"),
        "{wrong:?}"
    );
}

#[test]
fn credentials_in_header_fields_are_for_the_dump_only() {
    let route = "[[route]]\ncluster = \"default\"\nset_request_header = { Authorization = \"Basic eA\", x-a = \"b\" }\n";
    let checked = checked(&format!("{QUICK_START}{route}"));
    assert!(checked.to_toml().contains("Basic eA"));
    let shown = &checked.to_json()["route"][0]["set_request_header"];
    assert_eq!(*shown, serde_json::json!({ "Authorization": "…", "x-a": "b" }));
}

#[test]
fn toml_is_read_as_it_may_be_written() {
    let odd = "\u{feff}# comment\r\n[[listener]]\r\nbind = ':80'\r\n[[cluster]]\r\nbackend = [\r\n  { address = \"a:1\", weight = 1_0 },\r\n \
               \"b:1\", # last\r\n]\r\nbalance = \"ROUND_ROBIN\"\r\n[defaults]\r\n\"head_timeout\" = \"\"\"5s\"\"\"\r\n";
    let plan = checked(odd).draft;
    assert_eq!(plan.clusters[0].backends[0].weight, 10);
    assert_eq!(plan.timeouts.head.as_secs(), 5);
    let dotted = "listener = [{ bind = ':80' }]\ncluster = [{ backend = 'a:1', sticky.cookie = 's' }]\nlog.format = 'json'\n";
    assert_eq!(checked(dotted).log_format(), LogFormat::Json);
    let line_of_crlf = mistakes("[[listener]]\r\nbind = ':80'\r\n\r\nx = 1\r\n");
    assert!(line_of_crlf.iter().any(|line| line.starts_with("a.toml:4: listener.x")), "{line_of_crlf:?}");
}

const EVERYTHING: &str = include_str!("tests/everything.toml");

#[test]
fn a_dump_means_the_same_and_is_its_own_dump() {
    let first = checked(EVERYTHING);
    let dump = first.to_toml();
    let second = checked(&dump);
    assert_eq!(second.to_toml(), dump);
    // Everything but the comments about secrets, which the second one has no more.
    assert_eq!(format!("{:#?}", first.draft), format!("{:#?}", second.draft));
    assert_eq!(first.to_json(), second.to_json());
    assert_eq!(first.addresses(), second.addresses());
}

#[test]
fn what_stays_of_a_directory_is_read_in_order() {
    let directory = std::env::temp_dir().join(format!("ringway-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("20-b.toml", "[[listener]]\nbind = \":81\"\n[defaults]\nvia = false\n");
    write("10-a.toml", QUICK_START);
    write("notes.txt", "not read");
    write(".hidden.toml", "not = read");
    let source = |path: &std::path::Path| Source::Files {
        files: Files::Path(path.to_owned()),
        overrides: Overrides::default(),
    };
    let loaded = load(&source(&directory), &environment()).unwrap();
    let ports: Vec<_> = loaded.draft.listeners.iter().map(|listener| listener.endpoint.to_string()).collect();
    assert_eq!(ports, ["0.0.0.0:80", "0.0.0.0:81"]);
    assert!(!loaded.draft.headers.via);
    write("30-c.toml", "[defaults]\nvia = true\n");
    std::fs::write(directory.join("40-d.toml"), [0xff, b'\n']).unwrap();
    let wrong = load(&source(&directory), &environment()).unwrap_err();
    assert!(wrong[0].to_string().contains("40-d.toml:1: this is not UTF-8"), "{wrong:?}");
    std::fs::remove_file(directory.join("40-d.toml")).unwrap();
    let pipe = directory.join("pipe");
    let modes = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, modes.0, modes.1, 0).unwrap();
    for odd in [pipe.as_path(), std::path::Path::new("/dev/null")] {
        let wrong = load(&source(odd), &environment()).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].to_string().contains("this is no regular file"), "{wrong:?}");
    }
    let wrong = load(&source(&directory), &environment()).unwrap_err();
    assert!(
        wrong.len() == 1
            && wrong[0].to_string().contains("30-c.toml:1: defaults: the table stands in another file")
    );
    assert!(wrong[0].to_string().contains("20-b.toml:3"), "{wrong:?}");
    std::fs::remove_dir_all(&directory).unwrap();
    let gone = load(&source(&directory), &environment()).unwrap_err();
    assert!(gone[0].to_string().contains("cannot open the file"), "{gone:?}");
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_taken_can_be_dumped(content in "(\\[\\[(listener|cluster|route|cluster.backend)\\]\\]\n|\\[(defaults|runtime|log|admin)\\]\n|(bind|mode|name|balance|backend|address|weight|host|path|path_prefix|cluster|split|redirect|via|x) = (\":0\"|\"tcp\"|\"a\"|\"a:1\"|\"/\"|1|true|\\[\\]|\\{\\}|\"\\$\\{A:-b\\}\"|[ -~]{0,6})\n|.{0,3}){0,14}") {
        if let Ok(taken) = load(&text(&content), &environment()) {
            let dump = taken.to_toml();
            prop_assert_eq!(checked(&dump).to_toml(), dump);
        }
    }

    #[test]
    fn every_text_survives_a_dump(body in any::<String>(), value in "[ -~]{0,20}") {
        let quoted = |text: &str| serde_json::to_string(&text.replace("${", "$${")).unwrap().replace('\u{7f}', "\\u007F");
        let content = format!(
            "{QUICK_START}[[route]]\nrespond = {{ body = {} }}\nset_response_header = {{ x = {} }}\n",
            quoted(&body), quoted(&value),
        );
        let first = checked(&content);
        let second = checked(&first.to_toml());
        prop_assert_eq!(format!("{:?}", first.draft.routes), format!("{:?}", second.draft.routes));
    }
}
