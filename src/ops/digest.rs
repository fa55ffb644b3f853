use std::path::Path;

use super::{Context, Plan, Statement, Task};
use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Refusal, Result};
use crate::oci::{Platform, Reference};
use crate::prepare::digest_of_directory;
use crate::sys::{files, new_files};

/// An image whose digests are wanted.
#[derive(Clone, Debug)]
pub struct DigestRequest {
    /// The image.
    pub image: Reference,
    /// What the statement says.
    pub statement: Statement,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
}

/// Computes everything that a seal of an image would sign.
///
/// # Errors
/// Errors of finding and reading the image.
pub fn digest(context: &Context, request: &DigestRequest) -> Result<Plan> {
    let located = context.locate(&request.image, request.platform.as_ref())?;
    Plan::new(context, located, &request.statement, false)
}

/// Computes the merged digest of a directory that an image was unpacked or mounted to.
///
/// # Errors
/// The errors of [`digest_of_directory`].
pub fn directory_digest(context: &Context, path: &Path, algorithm: Algorithm) -> Result<VerityDigest> {
    let _step = context.begin(Task::Waiting(&format!("reading {}", path.display())));
    digest_of_directory(path, algorithm, &context.budget)
}

impl Plan {
    /// Writes what is to be signed into `dir`, for tools that sign files: `ROLE` and `ROLE.tosign`.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`].
    pub fn write(&self, dir: &Path) -> Result<()> {
        let io = |e: std::io::Error| Refusal::io(dir.display().to_string(), e);
        std::fs::create_dir_all(dir).map_err(io)?;
        let open = files::open_dir(dir).map_err(io)?;
        for item in self.items() {
            new_files::write_atomic(&open, &item.role.to_string(), 0o644, &item.bytes).map_err(io)?;
            new_files::write_atomic(&open, &format!("{}.tosign", item.role), 0o644, &item.to_sign()).map_err(io)?;
        }
        Ok(())
    }
}
