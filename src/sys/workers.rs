//! Work on many things at once.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Refusal, Result};

/// Returns how many things this machine can do at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for each number below `count` on up to `threads` threads, of which the caller's is one, and returns the
/// results in the order of the numbers. Each thread has a value of its own, made by `begin`, that `work` can use again.
///
/// # Errors
/// The error of the lowest number that failed, so that the same input has the same message. What was not begun by then
/// is not done.
pub fn each<S, T: Send>(
    threads: usize,
    count: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Refusal)>> = Mutex::new(None);
    let worker = || {
        let (mut done, mut own) = (Vec::new(), begin());
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count) {
            match work(&mut own, number) {
                Ok(value) => done.push((number, value)),
                Err(refusal) => {
                    next.store(count, Ordering::Relaxed);
                    let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(n, _)| *n > number) {
                        *first = Some((number, refusal));
                    }
                }
            }
        }
        done
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        others.into_iter().for_each(|other| all.extend(other.join().unwrap_or_else(|fault| resume_unwind(fault))));
        all
    });
    if let Some((_, refusal)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(refusal);
    }
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Case;

    #[test]
    fn results_come_in_order_and_the_first_refusal_counts() {
        let doubled = each(4, 1000, || (), |(), n| Ok(n * 2)).unwrap();
        assert_eq!(doubled, (0..1000).map(|n| n * 2).collect::<Vec<_>>());
        assert!(each(4, 0, || (), |(), _| Ok(())).unwrap().is_empty());
        // Both are begun before either fails.
        let both = std::sync::Barrier::new(2);
        let refuse = |(): &mut (), n: usize| -> Result<()> {
            both.wait();
            Err(Refusal::new(Case::Bug, n.to_string(), ""))
        };
        let refusal = each(2, 2, || (), refuse).unwrap_err();
        assert_eq!(refusal.subject(), "0");
    }

    #[test]
    fn nothing_more_is_begun_after_a_refusal() {
        let begun = AtomicUsize::new(0);
        let refuse = |(): &mut (), _| -> Result<()> {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(Refusal::new(Case::Bug, "", ""))
        };
        each(1, 1000, || (), refuse).unwrap_err();
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_panic_is_not_taken_for_a_result() {
        let work = |(): &mut (), n: usize| -> Result<usize> { if n == 50 { panic!("fault") } else { Ok(n) } };
        assert!(std::panic::catch_unwind(|| each(3, 100, || (), work)).is_err());
    }
}
