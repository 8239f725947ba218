//! `ringway demo`: three backends to look at the balancer with, and what to try.

use std::collections::BTreeSet;

use crate::support::kernel::allowed_cores;
use crate::support::ringway::Options;
use crate::support::{Ringway, eventually};

fn start() -> Ringway {
    let mut command = Options::bare();
    command.args(["demo", "--listen", "127.0.0.1:0", "--cores", &allowed_cores()[0].to_string()]);
    Ringway::spawn(command)
}

#[test]
fn its_three_backends_take_turns() {
    let ringway = start();
    let greeting = |_| {
        let answer = ringway.get("/");
        assert_eq!(answer.status, 200);
        answer.text().lines().next().unwrap().to_owned()
    };
    let heard: Vec<_> = (0..9).map(greeting).collect();
    assert!(heard.chunks(3).all(|round| round == &heard[..3]), "not in turn: {heard:#?}");
    let named: BTreeSet<_> = heard.iter().map(|line| line.split(" (").next().unwrap().to_owned()).collect();
    let wanted = (1..=3).map(|number| format!("hello from backend {number}"));
    assert_eq!(named, wanted.collect());
}

#[test]
fn it_prints_what_to_try_and_that_works() {
    let mut ringway = start();
    let address = ringway.address();
    assert_eq!(ringway.client().post("/echo", b"hello").text(), "hello");
    let lines = ringway.lines().len();
    ringway.signal(libc::SIGUSR1);
    ringway.wait_line_after(lines, "statistics", |line| line.contains("total"));
    ringway.signal(libc::SIGINT);
    let printed = ringway.printed();
    let words = [
        format!("curl {address} "),
        format!("curl {address}/slow "),
        format!("curl -N {address}/stream "),
        format!("curl {address}/echo -d hello"),
        format!("kill -USR1 {}", ringway.id()),
        "Ctrl-C".to_owned(),
    ];
    let missing: Vec<_> = words.iter().filter(|word| !printed.contains(*word)).collect();
    assert!(missing.is_empty(), "no {missing:?} in:\n{printed}");
    assert_eq!(eventually("its end", || ringway.ended()).code(), Some(0));
}
