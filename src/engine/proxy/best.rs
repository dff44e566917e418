//! Which of several final responses the caller gets: RFC 3261 section 16.7 item 6.

use bytes::Bytes;

/// A final response of one branch, ready to go to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Final {
    /// Its status code.
    pub(crate) status: u16,
    /// The response without our Via; none if we make it ourselves (a timeout, a transport error).
    pub(crate) bytes: Option<Bytes>,
}

impl Final {
    /// The better of both; the earlier one of equals.
    pub(crate) fn or_better(self, other: Final) -> Final {
        if rank(other.status) < rank(self.status) { other } else { self }
    }
}

/// Lower is better: any 6xx, then the lowest class; within 4xx those that tell the caller how to try again, and a
/// timeout last; 503 says least of all.
fn rank(status: u16) -> u32 {
    let class = match status {
        600..700 => 0,
        _ => u32::from(status / 100),
    };
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        408 | 503 => 2,
        _ => 1,
    };
    class * 10 + within
}

/// The code under which a response goes on: a 503 of a destination is not a 503 of ours (section 16.7 item 6).
pub(crate) fn passed_on(status: u16) -> u16 {
    if status == 503 { 500 } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_response_follows_section_16_7() {
        for (statuses, best) in [
            (&[404, 600, 302][..], 600),
            (&[503, 486], 486),
            (&[486, 404], 486),
            (&[404, 407], 407),
            (&[408, 404], 404),
            (&[503, 500], 500),
            (&[603, 600], 603),
            (&[302, 480], 302),
        ] {
            let finals = statuses.iter().map(|&status| Final { status, bytes: None });
            assert_eq!(finals.reduce(Final::or_better).map(|best| best.status), Some(best), "{statuses:?}");
        }
    }
}
