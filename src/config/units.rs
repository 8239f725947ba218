//! Numbers with their units: durations (`"1m30s"`), sizes (`"64KiB"`) and rates (`"10/s"`).
//!
//! Pure. Whatever is written here is read back as the same value.

use std::time::Duration;

/// The units of a duration, the largest first, with their milliseconds.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The units of a size, the largest first, with their bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The units of a rate.
const RATES: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

/// How a rate is written, for messages.
pub const RATE_FORM: &str =
    "a number for each second, minute or hour, such as `\"10/s\"`, `\"300/m\"` or `\"1000/h\"`";

/// How a duration is written, for messages.
pub const DURATION_FORM: &str =
    "a number with a unit, such as `\"250ms\"`, `\"25s\"`, `\"5m\"`, `\"1h\"` or `\"1m30s\"`";

/// How a size is written, for messages.
pub const SIZE_FORM: &str = "a number with a unit, such as `\"512B\"`, `\"64KiB\"` or `\"1MiB\"`";

/// Reads `250ms`, `25s`, `5m`, `1h`, `2d` or several with falling units; `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &TIMES).map(Duration::from_millis)
}

/// Writes whole milliseconds in as few units as it takes, none larger than an hour.
pub fn format_duration(duration: Duration) -> String {
    let all = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = TIMES.iter().skip(1).find(|(_, size)| all != 0 && all.is_multiple_of(*size));
    let (unit, size) = fits.copied().unwrap_or(("s", 1_000));
    format!("{}{unit}", all / size)
}

/// Reads `512B`, `64KiB`, `1MiB` or `2GiB`; `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// Writes a size in the largest unit that leaves no rest.
pub fn format_size(bytes: u64) -> String {
    let fits = SIZES.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    let (unit, size) = fits.copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / size)
}

/// Reads `10/s`, `300/m` or `1000/h`: so many in such a time; `None` for anything else.
pub fn parse_rate(text: &str) -> Option<(u32, Duration)> {
    let (count, unit) = text.split_once('/')?;
    let (_, per) = RATES.iter().find(|(name, _)| *name == unit)?;
    let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    Some((count.parse().ok().filter(|_| plain)?, *per))
}

/// Writes a rate of one of the three units.
pub fn format_rate(count: u32, per: Duration) -> String {
    let unit = RATES.iter().find(|(_, known)| *known == per).map_or("s", |(unit, _)| *unit);
    format!("{count}/{unit}")
}

/// The sum of number and unit pairs, each unit smaller than the one before.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (mut rest, mut sum, mut units) = (text, 0u64, units.iter());
    while sum == 0 || !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = rest.get(..length)?;
        rest = rest.get(length..)?;
        // What has been passed over does not come back: units fall.
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.checked_mul(*size)?)?;
        if rest.is_empty() {
            break;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("25s", 25_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("0m1s", 1_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "s",
            "5",
            "5x",
            "-5s",
            "1.5s",
            "5 s",
            "5s5s",
            "1s1m",
            "5S",
            "5s ",
            "99999999999999999999s",
            "1s1",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        for (millis, text) in
            [(0, "0s"), (1_500, "1500ms"), (90_000, "90s"), (300_000, "5m"), (86_400_000, "24h")]
        {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("0B"), Some(0));
        for wrong in ["", "64", "64K", "64kb", "KiB", "1TiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rates() {
        for (text, count, seconds) in [("10/s", 10, 1), ("0/m", 0, 60), ("4000000000/h", 4_000_000_000, 3600)]
        {
            let rate = (count, Duration::from_secs(seconds));
            assert_eq!(parse_rate(text), Some(rate), "{text}");
            assert_eq!(format_rate(rate.0, rate.1), text);
        }
        for wrong in [
            "",
            "10",
            "/s",
            "10/",
            "10/d",
            "10 /s",
            "10/ s",
            "+1/s",
            "-1/s",
            "1.5/s",
            "5000000000/s",
            "1/s/s",
        ] {
            assert_eq!(parse_rate(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn written_values_are_read_back(number in 0u64..1 << 50) {
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(number)), Some(number));
        }

        #[test]
        fn nothing_panics(text in "([0-9]{1,20}|ms|[smhdKMGiB ]){0,6}|.{0,8}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_rate(&text));
        }
    }
}
