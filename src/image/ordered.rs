use std::sync::{Condvar, Mutex, PoisonError};

/// Things that are made in any order and taken in the order of their numbers, while others are still
/// being made.
pub(super) struct InOrder<T> {
    state: Mutex<OrderedState<T>>,
    changed: Condvar,
}

struct OrderedState<T> {
    made: Vec<Option<T>>,
    /// What is missing now never comes.
    closed: bool,
}

impl<T> InOrder<T> {
    /// Makes room for `count` things.
    pub(super) fn new(count: usize) -> Self {
        let made = (0..count).map(|_| None).collect();
        Self { state: Mutex::new(OrderedState { made, closed: false }), changed: Condvar::new() }
    }

    /// Adds the thing of number `number`.
    pub(super) fn put(&self, number: usize, thing: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = state.made.get_mut(number) {
            *place = Some(thing);
        }
        self.changed.notify_all();
    }

    /// Does `work`, which makes these things; when it has ended, even by a panic, nothing more comes.
    pub(super) fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Close<'a, T>(&'a InOrder<T>);
        impl<T> Drop for Close<'_, T> {
            fn drop(&mut self) {
                self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
                self.0.changed.notify_all();
            }
        }
        let _close = Close(self);
        work()
    }

    /// Waits for each thing in turn; ends before the first that never comes.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        let mut number = 0;
        std::iter::from_fn(move || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let place = state.made.get_mut(number)?;
                if let Some(thing) = place.take() {
                    number += 1;
                    return Some(thing);
                }
                if state.closed {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_their_order_whatever_the_order_of_making() {
        let things = InOrder::new(4);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| things.iter().collect::<Vec<_>>());
            for number in [2, 0, 3, 1] {
                things.put(number, number);
            }
            assert_eq!(taker.join().unwrap(), [0, 1, 2, 3]);
        });
    }

    #[test]
    fn it_ends_before_what_never_comes() {
        let things = InOrder::new(3);
        things.during(|| {
            things.put(0, 'a');
            things.put(2, 'c');
        });
        assert_eq!(things.iter().collect::<Vec<_>>(), ['a']);
    }
}
