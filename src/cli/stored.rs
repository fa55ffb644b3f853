//! What the verbs for images of the container store share.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::home::Home;
use crate::cli::output;
use crate::identify::{ClaimedImage, StoredImage, configured, stored_images};
use crate::report::{Case, Class, Refusal, Result};

/// Images of the container stores, and how to speak of them.
pub(super) struct Chosen {
    images: Vec<StoredImage>,
    all: bool,
    json: bool,
}

impl Chosen {
    /// Those of these names or IDs, or all.
    pub(super) fn new(home: &Home, names: &[String], all: bool, json: bool) -> Result<Self> {
        graph_root(&home.vault)?;
        if let Some(name) = names.iter().find(|name| name.contains("://") || name.starts_with("oci:")) {
            let why = "this is for images of podman, by their names there; `layerseal pull` is for all others";
            return Err(Refusal::new(Case::Usage, name, why));
        }
        let roots = home.stores()?;
        let images = match all {
            true => stored_images(&roots, None)?,
            false => {
                let found: Vec<_> = names
                    .iter()
                    .map(|name| stored_images(&roots, Some(name)).map_err(with_driver))
                    .collect::<Result<_>>()?;
                found.into_iter().flatten().collect()
            }
        };
        Ok(Self { images, all, json })
    }

    /// Does `work` for each; `tell` and `more` say what came of it, to a person and to a script. One that
    /// is refused does not keep the others, and gives the exit code: unless all that are there were meant,
    /// of which some may well be refused.
    pub(super) fn each<T>(
        &self,
        mut work: impl FnMut(&ClaimedImage, &str) -> Result<T>,
        tell: impl Fn(&str, &T) -> String,
        more: impl Fn(&Result<T>) -> Value,
    ) -> ExitCode {
        let mut worst: Option<Refusal> = None;
        let mut rows = Vec::new();
        for stored in &self.images {
            let name = stored.names.first().unwrap_or(&stored.id);
            let result = stored.image.as_ref().map_err(Clone::clone).and_then(|image| work(image, name));
            match &result {
                _ if self.json => rows.push(row(stored, more(&result))),
                Ok(done) => output::line(tell(name, done)),
                Err(refusal) => output::error_line(refusal),
            }
            if let Err(refusal) = result {
                worst.get_or_insert(refusal);
            }
        }
        if self.json {
            output::document(&Value::Array(rows));
        }
        let refused = worst.filter(|refusal| !self.all || refusal.case().class() == Class::Internal);
        refused.map_or(ExitCode::SUCCESS, |refusal| ExitCode::from(refusal.case().class().exit_code()))
    }
}

/// Of another driver than overlay no image is found, although podman lists it.
fn with_driver(refusal: Refusal) -> Refusal {
    let driver = configured().ok().and_then(|found| found.driver()).filter(|driver| driver != "overlay");
    match driver {
        Some(driver) if refusal.case() == Case::NotStored => {
            let why =
                format!("the store is one of the driver {driver}, and layerseal is for overlay; {}", refusal.detail());
            Refusal::new(Case::NotStored, refusal.subject(), why)
        }
        _ => refusal,
    }
}

fn row(stored: &StoredImage, more: Value) -> Value {
    let mut row = json!({ "id": stored.id, "names": stored.names });
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// The vault that mount programs use is that of a container store.
fn graph_root(vault: &Path) -> Result<()> {
    match (vault.file_name(), vault.parent()) {
        (Some(name), Some(_)) if name == "layerseal" => Ok(()),
        _ => {
            let why = "the vault of a container store is GRAPHROOT/layerseal";
            Err(Refusal::new(Case::Usage, vault.display().to_string(), why))
        }
    }
}
