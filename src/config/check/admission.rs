//! Who may come in and how often: ranges, and what belongs together.

use std::num::NonZeroU32;

use super::{Findings, listeners::unix};
use crate::{
    config::{
        file::{Burst, Listener, NetworkList, RateKeyItem, Route},
        mistake::Place,
        plan::{
            AdmissionPlan, Mode,
            admission::{RATE_COUNT_MAX, Rate, RateKey, RateLimit},
        },
        read::Key,
    },
    syntax,
};

/// What a listener asks.
pub(super) fn of_listener(findings: &mut Findings<'_>, listener: &Listener, mode: Mode) -> AdmissionPlan {
    let rate = rate(findings, (&listener.rate_limit, &listener.rate_burst, &listener.rate_key));
    if let (Some(RateLimit { key: RateKey::Header(_), .. }), Some(place), true) =
        (&rate, listener.rate_key.place(), mode != Mode::Http)
    {
        let name = mode.name();
        findings.mistake(place, format!("a header field is a part of HTTP requests, and the mode is `{name}`: write `client-address` or `all`"));
    }
    need_addresses(findings, listener, rate.as_ref());
    leave_somebody(findings, &listener.allow, &listener.deny);
    AdmissionPlan {
        allow: networks(&listener.allow),
        deny: networks(&listener.deny),
        rate,
        connections_per_client: NonZeroU32::new(listener.max_connections_per_client.number(0)),
    }
}

/// What a route asks.
pub(super) fn of_route(findings: &mut Findings<'_>, route: &Route) -> AdmissionPlan {
    leave_somebody(findings, &route.allow, &route.deny);
    AdmissionPlan {
        allow: networks(&route.allow),
        deny: networks(&route.deny),
        rate: rate(findings, (&route.rate_limit, &route.rate_burst, &route.rate_key)),
        connections_per_client: None,
    }
}

/// Clients of UNIX sockets have no addresses, unless a proxy in front says what they are.
fn need_addresses(findings: &mut Findings<'_>, listener: &Listener, rate: Option<&RateLimit>) {
    let binds = listener.bind.get().map_or(&[][..], |list| &list.0);
    if binds.is_empty() || !binds.iter().all(|at| unix(&at)) || !listener.accept_proxy.is_absent() {
        return;
    }
    let by_address = rate.is_some_and(|limit| limit.key == RateKey::ClientAddress);
    let idle: [(&str, Option<&Place>); 4] = [
        ("allow", listener.allow.place()),
        ("deny", listener.deny.place()),
        ("max_connections_per_client", listener.max_connections_per_client.place()),
        ("rate_limit", listener.rate_limit.place().filter(|_| by_address)),
    ];
    for (key, place) in idle {
        let Some(place) = place else { continue };
        let all = if key == "rate_limit" { ", or write `rate_key = \"all\"`" } else { "" };
        findings.mistake(place, format!(
            "`{key}` goes by client addresses, and clients of UNIX sockets have none: leave it out{all}, or let the proxy in front say them with `accept_proxy = \"all\"`"
        ));
    }
}

/// `deny` goes before `allow`.
fn leave_somebody(findings: &mut Findings<'_>, allow: &Key<NetworkList>, deny: &Key<NetworkList>) {
    if let (Some(allow), Some(deny)) = (allow.get(), deny.given())
        && deny.value.0.cover(&allow.0)
    {
        findings.warning(
            &deny.place,
            "nobody is left: `deny` goes before `allow` and has all of its networks, take out of it who may come",
        );
    }
}

fn networks(key: &Key<NetworkList>) -> crate::addr::Networks {
    key.get().map(|list| list.0.clone()).unwrap_or_default()
}

/// A limit and what belongs to it.
fn rate(
    findings: &mut Findings<'_>,
    (limit, burst, key): (&Key<Rate>, &Key<Burst>, &Key<RateKeyItem>),
) -> Option<RateLimit> {
    if limit.is_absent() {
        for (name, place) in [("rate_burst", burst.place()), ("rate_key", key.place())] {
            if let Some(place) = place {
                findings.mistake(place, format!("`{name}` belongs to a `rate_limit`, and there is none: add `rate_limit = \"10/s\"` or leave it out"));
            }
        }
    }
    let key = rate_key(findings, key);
    let at = limit.given()?;
    let given = at.value.count;
    if !(1..=RATE_COUNT_MAX).contains(&given) {
        let nobody = if given == 0 { "; `deny = \"all\"` takes nobody" } else { "" };
        findings.mistake(
            &at.place,
            format!("`{given}` is out of range: write a rate from 1 to {RATE_COUNT_MAX}, such as `\"10/s\"`{nobody}"),
        );
        return None;
    }
    Some(RateLimit { rate: at.value, burst: burst.number(at.value.in_a_second()), key })
}

fn rate_key(findings: &mut Findings<'_>, key: &Key<RateKeyItem>) -> RateKey {
    let Some(at) = key.given() else { return RateKey::default() };
    let table = match &at.value {
        RateKeyItem::ClientAddress => return RateKey::ClientAddress,
        RateKeyItem::All => return RateKey::All,
        RateKeyItem::OfRequest(table) => table,
    };
    if table.header.is_absent() {
        findings.mistake(&at.place, "`header` is missing: write `{ header = \"x-api-key\" }`");
    }
    let Some(name) = table.header.given() else { return RateKey::default() };
    if !syntax::is_token(name.value.as_bytes()) {
        findings.mistake(
            &name.place,
            "this is no name: write letters, digits and signs such as `-`, without blanks",
        );
    }
    RateKey::Header(name.value.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{
        check::tests::one,
        plan::admission::{Rate, RateKey, RateLimit},
        tests::{checked, mistakes},
    };

    fn listener(lines: &str) -> String {
        format!("[[listener]]\nbind = \":80\"\n{lines}\n[[cluster]]\nbackend = \"10.0.0.1:1\"\n")
    }

    fn route(lines: &str) -> String {
        listener("") + "[[route]]\nrespond = {}\n" + lines + "\n"
    }

    #[test]
    fn wrong_values_are_named() {
        let of_both: [fn(&str) -> String; 2] = [listener, route];
        for (with, line) in of_both.into_iter().zip([3, 8]) {
            one(&with("allow = []"), line, &["allow: ", "the list is empty"]);
            one(&with("deny = \"10.0.0.0/33\""), line, &["deny: ", "`10.0.0.0/33` is not a network"]);
            one(&with("rate_limit = 10"), line, &["the number `10`", "`\"10/s\"`"]);
            one(&with("rate_limit = \"10/d\""), line, &["the text `10/d`", "second, minute or hour"]);
            one(
                &with("rate_limit = \"0/s\""),
                line,
                &["`0` is out of range", "from 1 to 1000000", "`deny = \"all\"` takes nobody"],
            );
            let more = mistakes(&with("rate_limit = \"1000001/s\""));
            assert!(more.len() == 1 && !more[0].contains("deny"), "{more:?}");
            one(&with("rate_limit = \"1000001/h\""), line, &["`1000001` is out of range"]);
            one(&with("rate_burst = 2"), line, &["`rate_burst` belongs to a `rate_limit`"]);
            one(&with("rate_key = \"all\""), line, &["`rate_key` belongs to a `rate_limit`"]);
            let limited = |more: &str| with(&format!("rate_limit = \"1/s\"\n{more}"));
            one(&limited("rate_burst = 0"), line + 1, &["`0` is out of range", "from 1 to 1000000"]);
            one(&limited("rate_burst = -1"), line + 1, &["`-1` is out of range", "a whole number"]);
            one(&limited("rate_key = \"clientaddress\""), line + 1, &["did you mean `client-address`?"]);
            one(&limited("rate_key = { header = \"a b\" }"), line + 1, &["this is no name"]);
            one(&limited("rate_key = {}"), line + 1, &["`header` is missing"]);
            one(&limited("rate_key = { heeder = \"a\" }"), line + 1, &["did you mean `header`?"]);
        }
        one(&listener("max_connections_per_client = 0"), 3, &["`0` is out of range", "1 to 1000000"]);
        one(&listener("max_connections_per_client = \"4\""), 3, &["the text `4`", "without quotes"]);
        one(&route("max_connections_per_client = 4"), 8, &["there is no such key"]);
    }

    #[test]
    fn what_means_nothing_in_a_mode_or_on_a_unix_socket_is_a_mistake() {
        let with = |lines: &str| listener(&format!("mode = \"tcp\"\n{lines}"));
        one(
            &with("rate_limit = \"1/s\"\nrate_key = { header = \"x\" }"),
            5,
            &["part of HTTP requests", "`tcp`"],
        );
        let unix = |lines: &str| listener(lines).replace(":80", "unix:/a");
        for line in
            ["allow = \"::1\"", "deny = \"::1\"", "max_connections_per_client = 1", "rate_limit = \"1/s\""]
        {
            one(&unix(line), 3, &["clients of UNIX sockets have none", "`accept_proxy = \"all\"`"]);
            assert!(mistakes(&unix(&format!("{line}\naccept_proxy = \"all\""))).is_empty());
            assert!(mistakes(&unix(line).replace("\"unix:/a\"", "[\"unix:/a\", \":1\"]")).is_empty());
        }
        assert!(mistakes(&unix("rate_limit = \"1/s\"\nrate_key = \"all\"")).is_empty());
    }

    #[test]
    fn who_is_allowed_and_denied_is_nobody() {
        let of_both: [fn(&str) -> String; 2] = [listener, route];
        for (with, line) in of_both.into_iter().zip([4, 9]) {
            let told = |deny: &str| {
                let text = with(&format!("allow = [\"10.0.0.0/8\", \"::1\"]\ndeny = {deny}"));
                let all = checked(&text).warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
                all.into_iter().filter(|told| told.contains("nobody is left")).collect::<Vec<_>>()
            };
            for deny in ["\"all\"", "[\"10.0.0.0/9\", \"10.128.0.0/9\", \"::/64\"]"] {
                let told = told(deny);
                let place = format!("a.toml:{line}: ");
                assert!(told.len() == 1 && told[0].starts_with(&place), "{told:?}");
            }
            assert!(told("[\"10.0.0.0/8\", \"::2\"]").is_empty());
        }
    }

    #[test]
    fn the_burst_is_what_comes_in_a_second() {
        for (written, count, seconds, burst) in
            [("10/s", 10, 1, 10), ("300/m", 300, 60, 5), ("30/m", 30, 60, 1), ("7200/h", 7200, 3600, 2)]
        {
            let plan = checked(&route(&format!("rate_limit = \"{written}\""))).draft;
            let rate = Rate { count, per: Duration::from_secs(seconds) };
            let limit = RateLimit { rate, burst, key: RateKey::ClientAddress };
            assert_eq!(plan.routes[0].admission.rate, Some(limit), "{written}");
        }
    }
}
