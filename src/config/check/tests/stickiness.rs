//! How clients stay with their backends: what cannot be meant, and what is meant by little.

use super::{CLUSTER, LISTENER, one};
use crate::config::{plan::cluster::Sticky, tests::checked};

#[test]
fn a_table_says_one_way_and_what_belongs_to_it() {
    let with = |line: &str| format!("{LISTENER}{CLUSTER}sticky = {{ {line} }}\n");
    one(&with(""), 6, &["exactly one of `cookie` and `client_address`"]);
    one(&with("cookie = \"a\", client_address = \"1h\""), 6, &["exactly one of"]);
    one(&with("client_address = \"1h\", path = \"/\""), 6, &["`path` is for a cookie"]);
    one(&with("client_address = \"0s\""), 6, &["`0s` is out of range"]);
    one(&with("cookie = \"a b\""), 6, &["no name of a cookie"]);
    one(&with("cookie = \"a\", domain = \"a b\""), 6, &["no domain"]);
    one(&with("cookie = \"a\", path = \"a\""), 6, &["no path"]);
    one(&with("cookie = \"a\", same_site = \"none\""), 6, &["`secure = true`"]);
    one(&with("cookie = \"a\", max_age = \"900d\""), 6, &["out of range"]);
    let tcp = with("cookie = \"a\"").replace(":80\"", ":80\"\nmode = \"tcp\"");
    one(&tcp, 7, &["a `cookie` needs HTTP", "mode `tcp`"]);
}

/// Promise 28: three hours, unless told otherwise.
#[test]
fn a_clients_address_is_remembered_for_three_hours_unless_told_otherwise() {
    let meant = |value: &str| {
        let checked = checked(&format!("{LISTENER}{CLUSTER}sticky = {value}\n"));
        let [cluster] = checked.draft.clusters.as_slice() else { panic!("{checked:?}") };
        let Some(Sticky::ClientAddress(kept)) = cluster.sticky else { panic!("{cluster:?}") };
        (kept.as_secs(), checked.to_toml())
    };
    let (usual, shown) = meant("\"client-address\"");
    assert_eq!(usual, 3 * 3600);
    assert!(shown.contains("client_address = \"3h\""), "{shown}");
    assert_eq!(meant("{ client_address = \"3h\" }"), (usual, shown), "the table says the same");
    assert_eq!(meant("{ client_address = \"10m\" }").0, 600);
}

#[test]
fn a_word_is_the_address_and_nothing_else() {
    let with = |value: &str| format!("{LISTENER}{CLUSTER}sticky = {value}\n");
    one(
        &with("\"client-adress\""),
        6,
        &["cluster.sticky: ", "did you mean `client-address`?", "a table such as"],
    );
    one(&with("\"cookie\""), 6, &["cluster.sticky: ", "`\"client-address\"`", "a table such as"]);
    one(&with("true"), 6, &["cluster.sticky: ", "a table"]);
}
