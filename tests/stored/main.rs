//! Images of a real container store: what their directories and tar-split tables make is what their
//! blobs make.
#![allow(missing_docs)]

mod import;

use support::common;
