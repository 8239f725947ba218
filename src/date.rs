//! The `Date` of answers (RFC 9110 section 5.6.7), formatted at most once a second.

use std::{
    cell::{Cell, RefCell},
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};

use httpdate::HttpDate;
use rustix::time::{ClockId, clock_gettime};

/// A worker's formatted date.
#[derive(Default)]
pub struct DateCache {
    second: Cell<u64>,
    text: RefCell<String>,
}

impl DateCache {
    /// Appends the current date, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec as u64;
        if self.second.replace(now) != now {
            let mut text = self.text.borrow_mut();
            text.clear();
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", HttpDate::from(UNIX_EPOCH + Duration::from_secs(now)));
        }
        out.extend_from_slice(self.text.borrow().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_imf_fixdate_of_now() {
        let mut out = Vec::new();
        DateCache::default().write(&mut out);
        let parsed = httpdate::parse_http_date(std::str::from_utf8(&out).unwrap()).unwrap();
        assert!(parsed.elapsed().unwrap_or_default() < Duration::from_secs(60));
        assert_eq!(out.len(), 29);
    }
}
