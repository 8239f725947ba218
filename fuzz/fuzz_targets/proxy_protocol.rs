//! Headers of the PROXY protocol: `proxy_protocol::parse` and `proxy_protocol::write`.
//!
//! * However the input is cut, the result is the same, and what follows a header does not matter.
//! * Ends that are understood are written in both versions, and read back as the same ends in one family.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::{
    limits::PROXY_HEADER_BYTES_MAX,
    proxy_protocol::{Ends, Header, Invalid, Parsed, Version, parse, write},
};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let decided = (0..=bytes.len())
        .map(|end| (end, parse(&bytes[..end])))
        .find(|(_, result)| *result != Ok(Parsed::Incomplete));
    match decided {
        None => assert_eq!(whole, Ok(Parsed::Incomplete)),
        Some((end, result)) => {
            assert_eq!(whole, result);
            assert!(end <= PROXY_HEADER_BYTES_MAX, "decided after {end} bytes");
            if let Ok(Parsed::Complete { header, length }) = result {
                assert_eq!(length, end, "complete at its last byte, not before and not after");
                check_written(header);
            }
        }
    }
});

fn check_written(header: Header) {
    let Header::Inet(ends) = header else { return };
    for version in [Version::V1, Version::V2] {
        let read = written_and_read(version, ends).expect("what is written is valid");
        for (read, known) in [(read.source, ends.source), (read.destination, ends.destination)] {
            assert_eq!((read.ip().to_canonical(), read.port()), (known.ip().to_canonical(), known.port()));
        }
        assert_eq!(read.source.is_ipv4(), read.destination.is_ipv4(), "one family");
        assert_eq!(written_and_read(version, read), Ok(read), "the second time nothing changes");
    }
}

fn written_and_read(version: Version, ends: Ends) -> Result<Ends, Invalid> {
    let mut out = Vec::new();
    write(version, Some(ends), &mut out);
    match parse(&out)? {
        Parsed::Complete { header: Header::Inet(read), length } if length == out.len() => Ok(read),
        other => panic!("{ends:?} is read as {other:?}"),
    }
}
