//! In which order people expect names, and how times are written.

use std::cmp::Ordering;

/// Names as people sort them: without regard to the case of ASCII letters, and runs of digits by their value, so that
/// `img9` comes before `img10`. What differs only in case or in leading zeros goes by its bytes. A total order.
pub fn natural(one: &[u8], other: &[u8]) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let ordering = match (left, right) {
            ([], []) => return one.cmp(other),
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let ((a, after_a), (b, after_b)) = (number(left), number(right));
                (left, right) = (after_a, after_b);
                // Without leading zeros, the longer number is the larger.
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            }
            ([a, after_a @ ..], [b, after_b @ ..]) => {
                (left, right) = (after_a, after_b);
                a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase())
            }
            _ => left.len().cmp(&right.len()),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// The digits that a text starts with, less leading zeros, and what follows them.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

/// A moment in UTC as RFC 3339 has it (`2026-11-21T11:10:46Z`); what four digits of a year cannot say is written as the
/// nearest that they can.
pub(super) fn rfc3339(unix_s: i64) -> [u8; 20] {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let unix_s = unix_s.clamp(FIRST, LAST);
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00Z";
    let fields = [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, second / 3600),
        (14..16, second / 60 % 60),
        (17..19, second % 60),
    ];
    for (place, mut number) in fields {
        for digit in text[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that a
/// leap day is the last of its year; 400 years have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // 153 days are the five months from March to July, and from August to December.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_order_of_people() {
        let sorted = [
            "", "007", "7", "7a", "08", "10", "_x", "A", "a", "a.txt", "a1", "a2", "A10", "a10b", "a010c", "B",
            "b.txt", "Zoo", "\u{e4}",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(natural(pair[0].as_bytes(), pair[1].as_bytes()), Ordering::Less, "{pair:?}");
            assert_eq!(natural(pair[1].as_bytes(), pair[0].as_bytes()), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn moments() {
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_259_446, "2026-11-21T11:10:46Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_s), expected.as_bytes(), "{unix_s}");
        }
    }

    /// Against the other writer of dates in this house.
    #[test]
    fn every_day_of_five_centuries() {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        for day in 0..500 * 365 {
            let http = crate::http::date::format(day * 86_400);
            let http = str::from_utf8(&http).unwrap();
            let month = 1 + MONTHS.iter().position(|month| *month == &http[8..11]).unwrap();
            let expected = format!("{}-{month:02}-{}T00:00:00Z", &http[12..16], &http[5..7]);
            assert_eq!(rfc3339(day as i64 * 86_400), expected.as_bytes());
        }
    }

    proptest::proptest! {
        #[test]
        fn the_order_of_names_is_total(
            names in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(b"aAbB019._\xe4".to_vec()), 0..6), 3),
        ) {
            let [a, b, c] = &names[..] else { unreachable!() };
            assert_eq!(natural(a, b), natural(b, a).reverse());
            assert_eq!(natural(a, b).is_eq(), a == b);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                assert!(natural(a, c).is_le(), "{names:?}");
            }
        }
    }
}
