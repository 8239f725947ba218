//! Backend lists as operators write them: `addr::parse_backends`.
//!
//! A list that is understood keeps its meaning when it is written again; any other gets a message in one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::addr::{Target, parse_backends};

fuzz_target!(|text: &str| {
    match parse_backends(text) {
        Ok(backends) => {
            assert!(!backends.is_empty());
            for backend in &backends {
                if let Target::Host { host, port } = &backend.target {
                    assert!(*port != 0 && !host.is_empty());
                }
            }
            let written = backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            assert_eq!(parse_backends(&written), Ok(backends), "written again as {written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
