//! A line of the log for what a stranger can make happen as often as he likes: one in so many seconds, with the number of those
//! that were not written.

use std::cell::Cell;

use crate::http::Millis;

/// Between two lines of a kind, on each core.
const LINE_MS_MIN: Millis = 10_000;

/// One kind of line.
#[derive(Default)]
pub(super) struct Seldom {
    quiet_until_ms: Cell<Millis>,
    untold: Cell<u64>,
}

impl Seldom {
    /// Has `line` write it, if it is time; its argument is the end of the line.
    pub(super) fn tell(&self, now_ms: Millis, line: impl FnOnce(&str)) {
        if now_ms < self.quiet_until_ms.get() {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        self.quiet_until_ms.set(now_ms + LINE_MS_MIN);
        match self.untold.take() {
            0 => line(""),
            untold => line(&format!("; {untold} more since the last such line")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted() {
        let (seldom, told) = (Seldom::default(), Cell::new(0));
        let tell = |now_ms, want: Option<&str>| {
            let before = told.get();
            seldom.tell(now_ms, |more| {
                told.set(told.get() + 1);
                assert_eq!(Some(more), want);
            });
            assert_eq!(told.get() > before, want.is_some());
        };
        tell(5, Some(""));
        tell(6, None);
        tell(LINE_MS_MIN + 4, None);
        tell(LINE_MS_MIN + 5, Some("; 2 more since the last such line"));
        tell(3 * LINE_MS_MIN, Some(""));
    }
}
