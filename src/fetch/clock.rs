//! Deadlines. A registry, a proxy or a credential helper that hangs must not hold us up.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Case, Refusal, Result};

/// When a whole search must be done, if there is a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    until: Option<Instant>,
    whole: Duration,
}

impl Clock {
    /// Makes a clock without a limit for everything together; single steps have limits of their own.
    pub(super) fn open() -> Self {
        Self { until: None, whole: Duration::ZERO }
    }

    /// Makes a clock by which everything together may take `whole` from now.
    pub(super) fn of(whole: Duration) -> Self {
        Self { until: Instant::now().checked_add(whole), whole }
    }

    /// Returns what is left for a step that may take `at_most`.
    ///
    /// # Errors
    /// [`Case::C03Slow`] when nothing is.
    pub(super) fn left(&self, subject: &str, at_most: Duration) -> Result<Duration> {
        let left = self.until.map_or(at_most, |until| until.saturating_duration_since(Instant::now()).min(at_most));
        if left.is_zero() { Err(self.late(subject, at_most)) } else { Ok(left) }
    }

    /// Returns whether nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Makes the refusal for a step that took longer than it may.
    pub(super) fn late(&self, subject: &str, at_most: Duration) -> Refusal {
        let limit = if self.is_over() { self.whole } else { at_most };
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
