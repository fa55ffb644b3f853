//! What was refused, and what would have been.

use super::super::schema::{objects, words};

objects! {
    /// What was refused, and what audit let pass.
    pub struct Report {
        /// Where it was read.
        pub source: ReportSource,
        /// Since when, in seconds since 1970; `null` for all that is there.
        pub since: Option<i64>,
        /// How many calls ended in each way.
        pub calls: ReportedCalls,
        /// By decision, image and case; those that stopped most first.
        pub groups: Vec<ReportedGroup>,
    }

    /// Calls of hooks, the runtime and the mount program; a start has one or two.
    pub struct ReportedCalls {
        /// All that was asked was there.
        pub allowed: u64,
        /// Nothing was asked.
        pub off: u64,
        /// Let pass by audit.
        pub audit: u64,
        /// Refused.
        pub refused: u64,
    }

    /// An image that was refused, or would have been, for one case.
    pub struct ReportedGroup {
        /// `refused` or `audit`.
        pub decision: String,
        /// A name of the image; empty where it is not known.
        pub image: String,
        /// The ID of the case.
        pub case: String,
        /// How many calls.
        pub calls: u64,
        /// How many containers, as far as they are known.
        pub containers: usize,
        /// When it was first, in seconds since 1970.
        pub first: i64,
        /// When it was last.
        pub last: i64,
        /// What was looked at then.
        pub subject: String,
        /// All of it in one line.
        pub message: String,
        /// What can be done.
        pub remedy: String,
    }
}

words! {
    /// Where starts are on record.
    pub enum ReportSource {
        /// journald.
        Journal = "journal",
        /// layerseal's own log in `/run/layerseal/log`.
        Log = "log",
    }
}
