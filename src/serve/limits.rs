//! How often a user may call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many calls may come at once: whoever starts all of a host's containers after a boot, with three calls for each if
/// hooks are called.
const AT_ONCE: u32 = 400;
/// After that, one call per interval of this length.
const EACH: Duration = Duration::from_millis(50);
/// How many users are remembered: more than call within seconds on any host.
const USERS: usize = 4096;

/// How often the list is cleaned up when it is full.
const SWEEP: Duration = Duration::from_secs(1);

/// How many calls each user has left.
#[derive(Debug, Default)]
pub(super) struct Limits {
    users: BTreeMap<u32, Left>,
    /// When those users were last forgotten who have all their calls left.
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    calls: u32,
    /// The time for which the number is right.
    since: Instant,
}

impl Left {
    fn at(self, now: Instant) -> Self {
        let more = now.saturating_duration_since(self.since).as_millis() / EACH.as_millis();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if self.calls.saturating_add(more) >= AT_ONCE {
            return Self { calls: AT_ONCE, since: now };
        }
        Self { calls: self.calls + more, since: self.since + EACH * more }
    }
}

impl Limits {
    /// Returns whether `user` may call now; if so, that counts as a call.
    pub(super) fn allow(&mut self, user: u32, now: Instant) -> bool {
        if self.users.len() >= USERS && self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP) {
            self.swept = Some(now);
            self.users.retain(|_, left| left.at(now).calls < AT_ONCE);
        }
        if self.users.len() >= USERS && !self.users.contains_key(&user) {
            return false;
        }
        let left = self.users.entry(user).or_insert(Left { calls: AT_ONCE, since: now });
        *left = left.at(now);
        let allowed = left.calls > 0;
        left.calls = left.calls.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r05_who_calls_too_often_waits_and_others_do_not() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let allowed = |limits: &mut Limits, user, at: Instant| (0..10_000).filter(|_| limits.allow(user, at)).count();
        assert_eq!(allowed(&mut limits, 1, now), AT_ONCE as usize);
        assert_eq!(allowed(&mut limits, 2, now), AT_ONCE as usize);
        assert_eq!(allowed(&mut limits, 1, now + EACH * 3), 3);
        assert_eq!(allowed(&mut limits, 1, now + Duration::from_secs(3600)), AT_ONCE as usize);
    }

    #[test]
    fn r05_users_without_number_take_no_memory() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        (0..100_000).for_each(|user| _ = limits.allow(user, now));
        assert_eq!(limits.users.len(), USERS);
        assert!(limits.allow(200_000, now + Duration::from_secs(60)), "the others have all again");
    }
}
