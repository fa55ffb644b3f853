//! What would start.

use super::super::schema::{objects, words};
use super::Error;
use crate::policy::Mode;

objects! {
    /// What would start, and what would not.
    pub struct Expectations {
        /// Images, once for each name that they may be started by.
        pub images: Vec<ExpectedImage>,
        /// Containers.
        pub containers: Vec<ExpectedContainer>,
        /// How many of both.
        pub sum: ExpectedSum,
    }

    /// How many would start.
    pub struct ExpectedSum {
        /// Those that a seal passes for.
        pub sealed: usize,
        /// Those of which nothing is asked.
        pub unasked: usize,
        /// Those that `audit` lets pass, and `enforce` would not.
        pub audit: usize,
        /// Those that do not start.
        pub refused: usize,
    }

    /// An image that might be started.
    pub struct ExpectedImage {
        /// The name that it is started by; `null` for one without.
        pub name: Option<String>,
        /// Its ID in the store.
        pub id: String,
        /// What would become of it.
        pub expected: Expected,
    }

    /// A container that might be started.
    pub struct ExpectedContainer {
        /// Its ID.
        pub id: String,
        /// Its names.
        pub names: Vec<String>,
        /// What would become of it.
        pub expected: Expected,
    }

    /// What a start would come to.
    pub struct Expected {
        /// Whether it starts.
        pub verdict: ExpectedVerdict,
        /// What the policy asks.
        pub mode: Mode,
        /// Where that was decided: the rule's pattern and its file.
        pub rule: String,
        /// The digest of the manifest that counts.
        pub manifest: Option<String>,
        /// The digest of the seal that vouches; `null` for one in the image itself.
        pub seal: Option<String>,
        /// The subject of the signer's certificate.
        pub signer: Option<String>,
        /// Whether its first start has nothing left to read.
        pub ready: bool,
        /// Why it is refused, or would be.
        pub error: Option<Error>,
    }
}

words! {
    /// Whether something would start.
    pub enum ExpectedVerdict {
        /// It starts: a seal passes.
        Sealed = "sealed",
        /// It starts: nothing is asked.
        Unasked = "unasked",
        /// It starts, and `enforce` would refuse it.
        Audit = "audit",
        /// It does not start.
        Refused = "refused",
    }
}
