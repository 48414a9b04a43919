//! Times: the part that RFC 3339 and ISO 8601 have in common, with seconds and a zone.
//!
//! As the official validators do, a day is checked against 31, not against its month.

/// The number in exactly `len` digits at the front, and what follows.
fn digits(text: &[u8], len: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = text.split_at_checked(len)?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((number.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')), rest))
}

fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.strip_prefix(&[byte])
}

pub(super) fn accepts(text: &str) -> bool {
    parse(text.as_bytes()).is_some()
}

fn parse(text: &[u8]) -> Option<()> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(after(rest, b'-')?, 2)?;
    let (day, rest) = digits(after(rest, b'-')?, 2)?;
    let (hour, rest) = digits(after(rest, b'T')?, 2)?;
    let (minute, rest) = digits(after(rest, b':')?, 2)?;
    let (second, rest) = digits(after(rest, b':')?, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let zone = match after(rest, b'.') {
        Some(fraction) => match fraction.iter().take_while(|b| b.is_ascii_digit()).count() {
            0 => return None,
            digits => &fraction[digits..],
        },
        None => rest,
    };
    if zone == b"Z" {
        return Some(());
    }
    let ahead = after(zone, b'+');
    let (hours, rest) = digits(ahead.or_else(|| after(zone, b'-'))?, 2)?;
    let (minutes, rest) = digits(after(rest, b':')?, 2)?;
    let is_zone = rest.is_empty() && hours <= 23 && minutes <= 59;
    // `-00:00` says that the zone is unknown. A zone ahead of UTC can put the first day of year 0 before year 0.
    let is_unknown = ahead.is_none() && hours == 0 && minutes == 0;
    let is_negative = ahead.is_some() && (year, month, day) == (0, 1, 1) && (hour, minute) < (hours, minutes);
    (is_zone && !is_unknown && !is_negative).then_some(())
}

#[cfg(test)]
mod tests {
    use super::accepts;

    #[test]
    fn the_strict_column_of_the_official_validators_holds() {
        for good in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000+10:30", "2026-02-30T00:00:00Z"] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["2026-01-01T00:00:00", "2026-01-01T00:00:00-00:00", "2026-01-01", "2026-01-01t00:00:00z", "é"] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
