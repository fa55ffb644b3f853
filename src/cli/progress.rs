//! Progress on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::oci::Image;

/// A bar for reading the layers of `image`.
pub(super) fn layers(image: &Image, what: &'static str) -> ProgressBar {
    // Uncompressed sizes are not known beforehand: a spinner with a rate, not a false percentage.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec})");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(format!("{what} {} layers", image.layers.len()));
    bar
}

/// A bar for reading files whose sizes become known on the way.
pub(super) fn files(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} ({bytes_per_sec})") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// A bar for bytes whose number is known.
pub(super) fn transfer(what: &'static str, bytes: u64) -> ProgressBar {
    let bar = files(what);
    bar.set_length(bytes);
    bar
}

/// For work of which nothing is known but that it goes on.
pub(super) fn spinner(what: String) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    if !bar.is_hidden() {
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
    }
    bar
}
