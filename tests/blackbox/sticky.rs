//! Sticky cookies: set once, opaque, good on every worker and every instance with the key, and replaced when they are
//! of no use.

use crate::support::{Backend, Client, Configured, Directory, Response, Ringway};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Answers one request on each connection, so that nobody goes on with it once it is gone; it can be gone because
/// nobody else takes the place of a UNIX socket.
struct Group {
    directory: Directory,
    backends: Vec<Option<Backend>>,
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

impl Group {
    fn new() -> Self {
        let directory = Directory::new();
        let backends = NAMES.map(|name| {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            );
            let place = directory.socket(name);
            Some(Backend::scripted_at(&place, move |connection| {
                if connection.request().is_some() {
                    connection.say(answer.as_bytes());
                }
            }))
        });
        Self { directory, backends: backends.into() }
    }

    /// A cluster of these backends with these weights.
    fn cluster(&self, name: &str, weights: [u16; 3], sticky: &str) -> String {
        let tables = NAMES.iter().zip(weights).map(|(backend, weight)| {
            let place = self.directory.socket(backend);
            format!("{{ address = \"{place}\", name = \"{backend}\", weight = {weight} }}")
        });
        let backends = tables.collect::<Vec<_>>().join(", ");
        format!("[[cluster]]\nname = \"{name}\"\nbackend = [{backends}]\nsticky = {{ {sticky} }}\n")
    }

    /// A listener for that cluster.
    fn text(&self, weights: [u16; 3], sticky: &str) -> String {
        format!("[[listener]]\nbind = \"127.0.0.1:0\"\n{}", self.cluster("web", weights, sticky))
    }

    fn kill(&mut self, name: &str) {
        let index = NAMES.iter().position(|known| *known == name).unwrap();
        drop(self.backends[index].take().unwrap());
    }
}

fn sticky_with(key: &str) -> String {
    format!("cookie = \"pin\", key = \"{key}\"")
}

fn get_with(ringway: &Ringway, cookies: &str) -> Response {
    ask(&mut ringway.client(), "/", cookies)
}

/// Asks with these `Cookie` fields, one on each line.
fn ask(client: &mut Client, path: &str, cookies: &str) -> Response {
    let fields: String = cookies.lines().map(|cookie| format!("Cookie: {cookie}\r\n")).collect();
    let response = client.ask(&format!("GET {path}"), &format!("Host: a\r\n{fields}"));
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// The pair `name=value` that a response sets, which must be the only one.
fn pair(response: &Response) -> Option<String> {
    let field = response.head.value("set-cookie")?;
    Some(field.split(';').next().unwrap().to_owned())
}

/// A new client's pair, and the backend it is for.
fn newcomer(ringway: &Ringway) -> (String, String) {
    let response = get_with(ringway, "");
    (pair(&response).unwrap_or_else(|| panic!("no cookie in {response:?}")), response.text())
}

/// The cookies of all three backends, by their names' order.
fn all_pairs(ringway: &Ringway) -> [String; 3] {
    let mut found = [None, None, None];
    for _ in 0..200 {
        let (cookie, backend) = newcomer(ringway);
        let index = NAMES.iter().position(|name| *name == backend).unwrap();
        let known = found[index].get_or_insert_with(|| cookie.clone());
        assert_eq!(*known, cookie, "one backend, two values");
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.map(|pair| pair.expect("some backend got no new client"))
}

#[test]
fn the_first_response_sets_an_opaque_cookie_with_its_attributes() {
    let named =
        Backend::answering("HTTP/1.1 200 OK\r\nSet-Cookie: own=1; Path=/own\r\nContent-Length: 2\r\n\r\nok");
    let unnamed = Backend::well_behaved("ok");
    let text = |backend: &str, sticky: &str| {
        format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n[[cluster]]\nname = \"secretcluster\"\nbackend = [{backend}]\n[cluster.sticky]\ncookie = \"pin\"\n{sticky}\n"
        )
    };
    let cookie_of = |text: &str, count: usize| {
        let ringway = Configured::start(1, text);
        let fields = ringway.get("/").head.values("set-cookie");
        assert_eq!(fields.len(), count, "{fields:?}");
        fields.into_iter().find(|field| field.starts_with("pin=")).unwrap()
    };
    let all = "path = \"/app\"\ndomain = \"example.com\"\nmax_age = \"8h\"\nsecure = true\nhttp_only = false\nsame_site = \"none\"";
    let table = format!("{{ address = \"{}\", name = \"secretname\" }}", named.place);
    let (plain, full) = (
        cookie_of(&text(&format!("\"{}\"", unnamed.place), ""), 1),
        // The backend's own cookie comes through beside it.
        cookie_of(&text(&table, all), 2),
    );
    let (first, attributes) = plain.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    let (second, attributes) = full.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/app; Domain=example.com; Max-Age=28800; Secure; SameSite=None");
    for pair in [first, second] {
        let value = pair.strip_prefix("pin=").unwrap();
        assert!(value.len() == 22 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        let port = [&named, &unnamed].map(|backend| backend.address.port().to_string());
        for secret in ["127", "secret", "name", &port[0], &port[1]] {
            assert!(!value.contains(secret), "{value} tells {secret}");
        }
    }
}

#[test]
fn a_client_stays_on_every_worker_and_every_instance() {
    let group = Group::new();
    let text = group.text([1, 1, 1], &sticky_with(KEY));
    let (one, other) = (Configured::start(2, &text), Configured::start(2, &text));
    let pairs = all_pairs(&one);
    assert_eq!(pairs, all_pairs(&other), "instances with one key understand each other");
    for (pair, backend) in pairs.iter().zip(NAMES) {
        for _ in 0..12 {
            for ringway in [&one, &other] {
                let response = get_with(ringway, &format!("a=b; {pair}; c=d"));
                assert_eq!(response.text(), backend);
                assert!(!response.head.has("set-cookie"), "set again: {response:?}");
            }
        }
    }
    // Nor does the connection decide: clients of a proxy share one.
    let mut client = one.client();
    for _ in 0..3 {
        for (pair, backend) in pairs.iter().zip(NAMES) {
            assert_eq!(ask(&mut client, "/", pair).text(), backend);
        }
    }
    let head = group.backends[0].as_ref().unwrap().last().head;
    assert_eq!(head.value("cookie").as_deref(), Some(pairs[0].as_str()), "it stays in the request");
    for ringway in [&one, &other] {
        let requests = ringway.stats().counter_per_worker("requests");
        assert!(requests.iter().all(|count| *count > 0), "not all workers were asked: {requests:?}");
    }
}

#[test]
fn what_is_no_cookie_of_ours_is_passed_over_and_replaced() {
    let group = Group::new();
    let ringway = Configured::start(2, &group.text([1, 1, 1], &sticky_with(KEY)));
    let pairs = all_pairs(&ringway);
    let stranger = Configured::start(1, &group.text([1, 1, 1], &sticky_with(OTHER_KEY)));
    let foreign = newcomer(&stranger).0;
    assert!(!pairs.contains(&foreign));
    let value = pairs[0].strip_prefix("pin=").unwrap();
    let flipped = format!("pin={}{}", if value.starts_with('A') { 'B' } else { 'A' }, &value[1..]);
    for cookie in [
        foreign.as_str(),
        &flipped,
        "pin=",
        "pin",
        "pin=alpha",
        "pin=0",
        "pin=AAAAAAAAAAAAAAAAAAAAAA",
        &format!("pin={value}A"),
        &format!("pin={}", &value[1..]),
        &format!("Pin={value}"),
        &format!("xpin={value}"),
        &format!("pin={}", "x".repeat(4000)),
        &"pin=x; ".repeat(500),
        "\u{fe}=;;;=pin;pin==",
    ] {
        // Not by chance: new clients go round all three.
        let mut seen = Vec::new();
        for _ in 0..60 {
            let response = get_with(&ringway, cookie);
            let set = pair(&response).unwrap_or_else(|| panic!("{cookie} was taken"));
            let index = NAMES.iter().position(|name| *name == response.text()).unwrap();
            assert_eq!(set, pairs[index], "{cookie}");
            seen.push(index);
            if [0, 1, 2].iter().all(|index| seen.contains(index)) {
                break;
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2], "{cookie} binds to a backend");
    }
    // Of several, the first good one counts, wherever it stands.
    for (cookies, backend) in [
        (format!("pin=garbage; {}", pairs[2]), "gamma"),
        (format!("{}; {}", pairs[1], pairs[0]), "beta"),
        (format!("{foreign}\nx=y\n{}", pairs[2]), "gamma"),
        (format!("pin=\"{value}\""), "alpha"),
    ] {
        for _ in 0..6 {
            let response = get_with(&ringway, &cookies);
            assert_eq!((response.text().as_str(), pair(&response)), (backend, None), "{cookies}");
        }
    }
}

#[test]
fn a_dead_backends_clients_move_and_get_a_new_cookie() {
    let mut group = Group::new();
    let ringway = Configured::start(2, &group.text([1, 1, 1], &sticky_with(KEY)));
    let pairs = all_pairs(&ringway);
    group.kill("beta");
    for turn in 0..20 {
        let mut client = ringway.client();
        let response = if turn % 2 == 0 {
            ask(&mut client, "/", &pairs[1])
        } else {
            // Nothing of it was sent to the dead one.
            client
                .send(
                    format!(
                        "POST / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\nContent-Length: 2\r\n\r\nhi",
                        pairs[1]
                    )
                    .as_bytes(),
                )
                .unwrap();
            client.response()
        };
        assert_eq!(response.status, 200, "turn {turn}");
        let (backend, new) = (response.text(), pair(&response).expect("no new cookie"));
        assert!(backend != "beta" && new != pairs[1]);
        // And there it stays.
        for _ in 0..4 {
            let again = get_with(&ringway, &new);
            assert_eq!((again.text(), pair(&again)), (backend.clone(), None));
        }
    }
    for (index, backend) in [(0, "alpha"), (2, "gamma")] {
        let response = get_with(&ringway, &pairs[index]);
        assert_eq!((response.text().as_str(), pair(&response)), (backend, None), "the others stay");
    }
}

#[test]
fn two_clusters_have_their_own_cookies() {
    let group = Group::new();
    let text = "[[listener]]\nbind = \"127.0.0.1:0\"\n".to_owned()
        + &group.cluster("one", [1, 1, 1], &format!("cookie = \"first\", key = \"{KEY}\""))
        + &group.cluster("two", [1, 1, 1], &format!("cookie = \"second\", key = \"{KEY}\""))
        + "[[route]]\npath_prefix = \"/1\"\ncluster = \"one\"\n[[route]]\npath_prefix = \"/2\"\ncluster = \"two\"\n";
    let ringway = Configured::start(2, &text);
    let mut client = ringway.client();
    let (one, two) = (ask(&mut client, "/1", ""), ask(&mut client, "/2", ""));
    let (first, second) = (pair(&one).unwrap(), pair(&two).unwrap());
    assert!(first.starts_with("first=") && second.starts_with("second="));
    for _ in 0..12 {
        let mut client = ringway.client();
        for (path, wanted) in [("/1", &one), ("/2", &two)] {
            let response = ask(&mut client, path, &format!("{first}; {second}"));
            assert_eq!((response.text(), pair(&response)), (wanted.text(), None));
        }
        // Under the other name the value is as good as none.
        let crossed = first.replace("first", "second");
        assert!(pair(&ask(&mut client, "/2", &crossed)).is_some());
    }
}

#[test]
fn a_weight_of_zero_keeps_its_clients_and_gets_no_new_ones() {
    let group = Group::new();
    let sticky = sticky_with(KEY);
    let ringway = Configured::start(2, &group.text([1, 1, 1], &sticky));
    let pairs = all_pairs(&ringway);
    ringway.reload(&group.text([1, 0, 1], &sticky));
    for _ in 0..20 {
        let response = get_with(&ringway, &pairs[1]);
        assert_eq!((response.text().as_str(), pair(&response)), ("beta", None));
        assert_ne!(newcomer(&ringway).1, "beta");
    }
    ringway.reload(&group.text([1, 1, 1], &sticky));
    assert_eq!(all_pairs(&ringway), pairs, "it is back");
}

#[test]
fn a_cookie_outlives_reloads_and_with_a_key_restarts() {
    let group = Group::new();
    for sticky in [sticky_with(KEY), "cookie = \"pin\"".to_owned()] {
        let (old, new) = (group.text([1, 1, 1], &sticky), group.text([3, 2, 1], &sticky));
        let mut ringway = Configured::start(2, &old);
        let pairs = all_pairs(&ringway);
        ringway.reload(&new);
        for _ in 0..10 {
            for (cookie, backend) in pairs.iter().zip(NAMES) {
                let response = get_with(&ringway, cookie);
                assert_eq!((response.text().as_str(), pair(&response)), (backend, None));
            }
        }
        drop(ringway);
        ringway = Configured::start(2, &new);
        let kept = sticky.contains("key");
        for (cookie, backend) in pairs.iter().zip(NAMES) {
            let response = get_with(&ringway, cookie);
            assert_eq!(pair(&response).is_none(), kept, "{sticky}");
            assert!(!kept || response.text() == backend);
        }
    }
}
