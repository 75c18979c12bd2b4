//! What every picture has: colours, text that stays in its place, names that do not cover each other. Pure.

/// Colours for lines, on light and on dark; told apart by people who do not see red from green, too. The first is ours.
pub(crate) const COLOURS: [(&str, &str); 6] = [
    ("#1f6fc9", "#5aa5f2"),
    ("#c2540a", "#f39a56"),
    ("#0b7d66", "#3fc2a4"),
    ("#8a3fa8", "#c98be3"),
    ("#8a6d00", "#d9b93b"),
    ("#b3274f", "#f07c9c"),
];

/// Text between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Heights in ascending order, moved so that names do not cover each other and stay between two heights.
pub(crate) fn apart(heights: &[f64], step: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut apart: Vec<f64> = Vec::new();
    for &height in heights {
        let free_from = apart.last().map_or(top, |last| last + step);
        apart.push(height.max(free_from));
    }
    let mut bound = bottom;
    for height in apart.iter_mut().rev() {
        *height = height.min(bound);
        bound = *height - step;
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_moved_apart_within_bounds() {
        let bounds = (0.0, 400.0);
        assert_eq!(apart(&[100.0, 200.0], 16.0, bounds), [100.0, 200.0]);
        assert_eq!(apart(&[100.0, 101.0, 102.0], 16.0, bounds), [100.0, 116.0, 132.0]);
        assert_eq!(apart(&[400.0, 400.0, 400.0], 16.0, bounds), [368.0, 384.0, 400.0]);
        assert_eq!(apart(&[10.0, 11.0, 99.0], 15.0, (0.0, 100.0)), [10.0, 25.0, 99.0]);
    }

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escape("<a b=\"c\">&\u{1}"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}");
    }
}
