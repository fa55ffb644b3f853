//! Progress on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ops::{Progress, Step, Task};

/// Bars and spinners on the standard error.
#[derive(Debug)]
pub(super) struct Terminal;

impl Progress for Terminal {
    fn begin(&self, task: Task<'_>) -> Box<dyn Step> {
        let (length, style, message) = match task {
            // Uncompressed sizes are not known beforehand: a spinner with a rate, not a false percentage.
            Task::Layers(what, count) => {
                (None, "{spinner} {msg} {bytes} ({bytes_per_sec})", format!("{what} {count} layers"))
            }
            Task::Bytes(what) => (Some(0), "{msg} [{bar:30}] {bytes}/{total_bytes} ({bytes_per_sec})", what.to_owned()),
            Task::Waiting(what) => (None, "{spinner} {msg}", what.to_owned()),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(message);
        if matches!(task, Task::Waiting(_)) && !bar.is_hidden() {
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
        }
        Box::new(Bar(bar))
    }
}

struct Bar(ProgressBar);

impl Step for Bar {
    fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn done(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
