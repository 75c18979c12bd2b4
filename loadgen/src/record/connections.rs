//! How evenly a server treats its connections: 12 bytes each, so that ten thousand of them cost nothing.

use serde::{Deserialize, Serialize};

/// What is kept of each connection of one thread.
#[derive(Clone, Debug, Default)]
pub struct ConnectionTally {
    answered: Vec<u32>,
    service_ns: Vec<u64>,
}

impl ConnectionTally {
    /// For so many connections, numbered from 0.
    #[must_use]
    pub fn new(connections: usize) -> ConnectionTally {
        ConnectionTally { answered: vec![0; connections], service_ns: vec![0; connections] }
    }

    /// One more answer on a connection. A number beyond those announced is ignored.
    #[inline]
    pub fn record(&mut self, conn: u32, service_ns: u64) {
        self.record_n(conn, service_ns, 1);
    }

    /// So many more, which took the same time each.
    #[inline]
    pub fn record_n(&mut self, conn: u32, service_ns: u64, times: u64) {
        let at = conn as usize;
        if let (Some(answered), Some(sum)) = (self.answered.get_mut(at), self.service_ns.get_mut(at)) {
            *answered = answered.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
            *sum = sum.saturating_add(service_ns.saturating_mul(times));
        }
    }

    /// What it says, for a thread whose connections are numbered from `first` on in the whole run.
    #[must_use]
    pub fn fairness(&self, first: u64) -> Fairness {
        let mut fairness = Fairness::default();
        for (at, (&answered, &service_ns)) in (first..).zip(self.answered.iter().zip(&self.service_ns)) {
            fairness.add_connection(at, u64::from(answered), service_ns);
        }
        fairness
    }
}

/// How evenly the answers were spread over the connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// How many connections there were.
    pub connections: u64,
    /// How many of them never got an answer.
    pub starved: u64,
    /// Answers of all of them.
    pub answered: u64,
    /// The sum of the squares of the answers of each: with the two above, what Jain's index is made of.
    pub answered_squares: f64,
    /// The least answers of one connection.
    pub answered_min: u64,
    /// The most answers of one connection.
    pub answered_max: u64,
    /// The connection with the highest mean service time.
    pub slowest: Option<SlowestConnection>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowestConnection {
    /// Its number in the run.
    pub number: u64,
    /// Its answers.
    pub answered: u64,
    /// The mean of their service times.
    pub mean_ns: f64,
}

impl Fairness {
    /// Jain's index: 1 when all connections got the same number of answers, 1/n when one got them all. Nothing was
    /// spread when there are no answers.
    #[must_use]
    pub fn jain(&self) -> Option<f64> {
        let (n, sum) = (self.connections as f64, self.answered as f64);
        (self.answered > 0).then(|| sum * sum / (n * self.answered_squares))
    }

    /// Adds the connections of another thread, or of another machine.
    pub fn merge(&mut self, other: &Fairness) {
        if other.connections == 0 {
            return;
        }
        let least = if self.connections == 0 { u64::MAX } else { self.answered_min };
        self.answered_min = least.min(other.answered_min);
        self.answered_max = self.answered_max.max(other.answered_max);
        self.connections += other.connections;
        self.starved += other.starved;
        self.answered += other.answered;
        self.answered_squares += other.answered_squares;
        let slower = |a: &SlowestConnection, b: &SlowestConnection| a.mean_ns >= b.mean_ns;
        match (&self.slowest, &other.slowest) {
            (Some(ours), Some(theirs)) if slower(ours, theirs) => {}
            (_, Some(theirs)) => self.slowest = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    fn add_connection(&mut self, number: u64, answered: u64, service_ns: u64) {
        let mean_ns = service_ns as f64 / answered as f64;
        let slowest = (answered > 0).then_some(SlowestConnection { number, answered, mean_ns });
        self.merge(&Fairness {
            connections: 1,
            starved: u64::from(answered == 0),
            answered,
            answered_squares: (answered as f64).powi(2),
            answered_min: answered,
            answered_max: answered,
            slowest,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fairness(answers: &[(u32, u64)]) -> Fairness {
        let mut tally = ConnectionTally::new(answers.len());
        for (conn, &(answered, service_ns)) in (0..).zip(answers) {
            for _ in 0..answered {
                tally.record(conn, service_ns);
            }
        }
        tally.fairness(0)
    }

    #[test]
    fn jains_index_is_one_when_all_are_equal_and_one_nth_when_one_has_all() {
        assert_eq!(fairness(&[(5, 1); 4]).jain(), Some(1.0));
        assert_eq!(fairness(&[(8, 1), (0, 0), (0, 0), (0, 0)]).jain(), Some(0.25));
        assert_eq!(fairness(&[(1, 1), (3, 1)]).jain(), Some(0.8));
        assert_eq!(fairness(&[(0, 0); 3]).jain(), None);
        assert_eq!(fairness(&[]).jain(), None);
    }

    #[test]
    fn the_slowest_connection_and_the_starved_are_named() {
        let fairness = fairness(&[(2, 10), (3, 30), (0, 0), (1, 20)]);
        assert_eq!(fairness.slowest, Some(SlowestConnection { number: 1, answered: 3, mean_ns: 30.0 }));
        assert_eq!((fairness.starved, fairness.answered_min, fairness.answered_max), (1, 0, 3));
    }

    #[test]
    fn merged_it_is_the_fairness_of_all_connections() {
        let (a, b) = ([(2, 10), (3, 30)], [(7, 5), (1, 90), (4, 4)]);
        let mut merged = fairness(&a);
        merged.merge(&fairness(&b));
        let mut all = fairness(&[a.as_slice(), b.as_slice()].concat());
        all.slowest.as_mut().expect("one").number = 1;
        assert_eq!(merged, all);
    }

    #[test]
    fn a_connection_beyond_those_announced_is_ignored() {
        let mut tally = ConnectionTally::new(1);
        tally.record(7, 1);
        assert_eq!(tally.fairness(0).answered, 0);
    }
}
