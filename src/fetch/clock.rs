//! Deadlines. A registry, a proxy or a credential helper that hangs must not keep us.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::report::{Case, Refusal, Result};

/// When all of a search must be done, if it must.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    until: Option<Instant>,
    whole: Duration,
}

impl Clock {
    /// Everything together may take as long as it does; single steps have limits of their own.
    pub(super) fn open() -> Self {
        Self { until: None, whole: Duration::ZERO }
    }

    /// Everything together may take `whole` from now.
    pub(super) fn of(whole: Duration) -> Self {
        Self { until: Instant::now().checked_add(whole), whole }
    }

    /// What is left for a step that may take `at_most`.
    ///
    /// # Errors
    /// [`Case::C03Slow`] when nothing is.
    pub(super) fn left(&self, subject: &str, at_most: Duration) -> Result<Duration> {
        let left = self.until.map_or(at_most, |until| until.saturating_duration_since(Instant::now()).min(at_most));
        if left.is_zero() { Err(self.late(subject, at_most)) } else { Ok(left) }
    }

    /// The refusal for a step that took longer than it may.
    pub(super) fn late(&self, subject: &str, at_most: Duration) -> Refusal {
        let over = self.until.is_some_and(|until| Instant::now() >= until);
        let limit = if over { self.whole } else { at_most };
        Refusal::new(Case::C03Slow, subject, format!("no answer within {} s", limit.as_secs()))
    }

    /// Waits for `work`, no longer than allowed.
    ///
    /// # Errors
    /// [`Case::C03Slow`], and those of `work`.
    pub(super) async fn limit<T>(
        &self,
        subject: &str,
        at_most: Option<Duration>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        /// Longer than anybody waits.
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let at_most = at_most.unwrap_or(YEAR);
        let left = self.left(subject, at_most)?;
        tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(self.late(subject, at_most)))
    }
}
